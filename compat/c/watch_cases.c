/* One-shot watches: what fires them, their order, their removal, and what a lost connection does to them. */
#include "cases.h"

/* Session events also reach these watchers; `keep_event` must count them once, so only watch events pass. */
static void watch_only(zhandle_t *handle, int type, int state, const char *path, void *context) {
    if (type != ZOO_SESSION_EVENT) keep_event(handle, type, state, path, context);
}

static void watch_data(struct client *c, const char *path) {
    char data[64];
    int length = sizeof data;
    OK(zoo_wget(c->handle, path, watch_only, c, data, &length, NULL));
}

static void watch_children(struct client *c, const char *path) {
    struct String_vector names;
    OK(zoo_wget_children(c->handle, path, watch_only, c, &names));
    deallocate_String_vector(&names);
}

static void watch_missing(struct client *c, const char *path) {
    SAME(zoo_wexists(c->handle, path, watch_only, c, NULL), ZNONODE);
}

static void watch_fires_once(void) {
    struct client *c = connected();
    const char *path = fresh(c);
    watch_data(c, path);
    OK(zoo_set(c->handle, path, "1", 1, -1));
    expect_event(c, ZOO_CHANGED_EVENT, path);
    OK(zoo_set(c->handle, path, "2", 1, -1));
    expect_no_event(c);
}

static void watch_exists(void) {
    struct client *c = connected();
    const char *path = fresh(c), *node = under(path, "a");
    watch_missing(c, node);
    make(c, node, "");
    expect_event(c, ZOO_CREATED_EVENT, node);
    OK(zoo_wexists(c->handle, node, watch_only, c, NULL));
    OK(zoo_set(c->handle, node, "x", 1, -1));
    expect_event(c, ZOO_CHANGED_EVENT, node);
    OK(zoo_wexists(c->handle, node, watch_only, c, NULL));
    OK(zoo_delete(c->handle, node, -1));
    expect_event(c, ZOO_DELETED_EVENT, node);
    expect_no_event(c);
}

static void watch_child_list(void) {
    struct client *c = connected();
    const char *path = fresh(c), *node = under(path, "a");
    watch_children(c, path);
    make(c, node, "");
    expect_event(c, ZOO_CHILD_EVENT, path);
    watch_children(c, path);
    /* A change of a child's data is not a change of the list. */
    OK(zoo_set(c->handle, node, "x", 1, -1));
    OK(zoo_delete(c->handle, node, -1));
    expect_event(c, ZOO_CHILD_EVENT, path);
    expect_no_event(c);
}

static void delete_fires_data_and_child_watches(void) {
    struct client *c = connected();
    const char *path = fresh(c), *node = under(path, "a");
    make(c, node, "");
    watch_data(c, node);
    watch_children(c, node);
    watch_children(c, path);
    OK(zoo_delete(c->handle, node, -1));
    /* The same watcher with the same context hears of the node once, then of its parent. */
    expect_event(c, ZOO_DELETED_EVENT, node);
    expect_event(c, ZOO_CHILD_EVENT, path);
    expect_no_event(c);
}

struct sequence {
    struct client *client;
    int event_seen, reply_seen, event_first;
};

static void sequence_event(zhandle_t *handle, int type, int state, const char *path, void *context) {
    struct sequence *sequence = context;
    (void)handle;
    (void)state;
    (void)path;
    if (type == ZOO_SESSION_EVENT) return;
    pthread_mutex_lock(&sequence->client->lock);
    sequence->event_seen = 1;
    sequence->event_first = !sequence->reply_seen;
    pthread_cond_broadcast(&sequence->client->changed);
    pthread_mutex_unlock(&sequence->client->lock);
}

static void sequence_reply(int code, const struct Stat *stat, const void *context) {
    struct sequence *sequence = (struct sequence *)context;
    (void)code;
    (void)stat;
    pthread_mutex_lock(&sequence->client->lock);
    sequence->reply_seen = 1;
    pthread_cond_broadcast(&sequence->client->changed);
    pthread_mutex_unlock(&sequence->client->lock);
}

static void own_event_comes_before_reply(void) {
    struct client *c = connected();
    const char *path = fresh(c);
    for (int round = 0; round < 50; round++) {
        struct sequence sequence = {c, 0, 0, 0};
        OK(zoo_wexists(c->handle, path, sequence_event, &sequence, NULL));
        OK(zoo_aset(c->handle, path, "x", 1, -1, sequence_reply, &sequence));
        pthread_mutex_lock(&c->lock);
        while (!sequence.event_seen || !sequence.reply_seen) pthread_cond_wait(&c->changed, &c->lock);
        pthread_mutex_unlock(&c->lock);
        CHECK(sequence.event_first);
    }
}

static void events_come_in_order_of_changes(void) {
    struct client *watching = connected(), *writing = connected();
    char path[128], nodes[100][160];
    snprintf(path, sizeof path, "%s", fresh(writing));
    for (int i = 0; i < 100; i++) {
        snprintf(nodes[i], sizeof nodes[i], "%s/n%d", path, i);
        make(writing, nodes[i], "");
    }
    /* The second session has to see those nodes first. */
    while (zoo_exists(watching->handle, nodes[99], 0, NULL) == ZNONODE) {}
    for (int i = 0; i < 100; i++) watch_data(watching, nodes[i]);
    for (int i = 0; i < 100; i++) OK(zoo_set(writing->handle, nodes[(i * 37) % 100], "x", 1, -1));
    for (int i = 0; i < 100; i++) expect_event(watching, ZOO_CHANGED_EVENT, nodes[(i * 37) % 100]);
    expect_no_event(watching);
}

static void multi_fires_in_order_of_operations(void) {
    struct client *watching = connected(), *writing = connected();
    char path[128];
    snprintf(path, sizeof path, "%s", fresh(writing));
    make(writing, under(path, "a"), "");
    make(writing, under(path, "b"), "");
    while (zoo_exists(watching->handle, under(path, "b"), 0, NULL) == ZNONODE) {}
    watch_data(watching, under(path, "a"));
    watch_data(watching, under(path, "b"));
    watch_missing(watching, under(path, "c"));
    zoo_op_t ops[3];
    zoo_op_result_t results[3];
    zoo_create_op_init(&ops[0], under(path, "c"), "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0);
    zoo_delete_op_init(&ops[1], under(path, "b"), -1);
    zoo_set_op_init(&ops[2], under(path, "a"), "x", 1, -1, NULL);
    OK(zoo_multi(writing->handle, 3, ops, results));
    expect_event(watching, ZOO_CREATED_EVENT, under(path, "c"));
    expect_event(watching, ZOO_DELETED_EVENT, under(path, "b"));
    expect_event(watching, ZOO_CHANGED_EVENT, under(path, "a"));
    expect_no_event(watching);
}

static void failed_multi_fires_nothing(void) {
    struct client *c = connected();
    const char *path = fresh(c);
    watch_data(c, path);
    zoo_op_t ops[2];
    zoo_op_result_t results[2];
    zoo_set_op_init(&ops[0], path, "x", 1, -1, NULL);
    zoo_delete_op_init(&ops[1], under(path, "none"), -1);
    SAME(zoo_multi(c->handle, 2, ops, results), ZNONODE);
    expect_no_event(c);
}

static void removed_watch_is_silent(void) {
    struct client *c = connected();
    const char *path = fresh(c);
    watch_data(c, path);
    watch_children(c, path);
    OK(zoo_remove_watches(c->handle, path, ZWATCHTYPE_DATA, watch_only, c, 0));
    OK(zoo_set(c->handle, path, "x", 1, -1));
    expect_no_event(c);
    make(c, under(path, "a"), "");
    expect_event(c, ZOO_CHILD_EVENT, path);
    SAME(zoo_remove_watches(c->handle, path, ZWATCHTYPE_DATA, watch_only, c, 0), ZNOWATCHER);
}

static void watches_survive_reconnect(void) {
    struct client *c = connected_to(proxy_address(), 20000, NULL);
    char path[128];
    snprintf(path, sizeof path, "%s", fresh(c));
    make(c, under(path, "data"), "");
    watch_data(c, under(path, "data"));
    watch_missing(c, under(path, "missing"));
    watch_children(c, path);
    control("cut");
    wait_connects(c, 2);
    expect_no_event(c);
    OK(zoo_set(c->handle, under(path, "data"), "x", 1, -1));
    expect_event(c, ZOO_CHANGED_EVENT, under(path, "data"));
    make(c, under(path, "missing"), "");
    expect_event(c, ZOO_CREATED_EVENT, under(path, "missing"));
    expect_event(c, ZOO_CHILD_EVENT, path);
    expect_no_event(c);
}

static void changes_while_disconnected_are_reported(void) {
    struct client *c = connected_to(proxy_address(), 20000, NULL), *other = connected();
    char path[128];
    snprintf(path, sizeof path, "%s", fresh(c));
    const char *nodes[] = {"changed", "deleted", "parent", "same"};
    for (int i = 0; i < 4; i++) make(c, under(path, nodes[i]), "");
    watch_data(c, under(path, "changed"));
    watch_data(c, under(path, "deleted"));
    watch_data(c, under(path, "same"));
    watch_children(c, under(path, "parent"));
    watch_missing(c, under(path, "created"));
    while (zoo_exists(other->handle, under(path, "same"), 0, NULL) == ZNONODE) {}
    control("refuse");
    OK(zoo_set(other->handle, under(path, "changed"), "x", 1, -1));
    OK(zoo_delete(other->handle, under(path, "deleted"), -1));
    make(other, under(path, "parent/child"), "");
    make(other, under(path, "created"), "");
    control("accept");
    wait_connects(c, 2);
    /* The server reports them in the order of its lists, which nobody may rely on: compare as a set. */
    int seen = 0;
    for (int i = 0; i < 4; i++) {
        pthread_mutex_lock(&c->lock);
        while (c->event_next >= c->event_count) pthread_cond_wait(&c->changed, &c->lock);
        struct event event = c->events[c->event_next++];
        pthread_mutex_unlock(&c->lock);
        if (event.type == ZOO_CHANGED_EVENT && strcmp(event.path, under(path, "changed")) == 0) seen |= 1;
        else if (event.type == ZOO_DELETED_EVENT && strcmp(event.path, under(path, "deleted")) == 0) seen |= 2;
        else if (event.type == ZOO_CHILD_EVENT && strcmp(event.path, under(path, "parent")) == 0) seen |= 4;
        else if (event.type == ZOO_CREATED_EVENT && strcmp(event.path, under(path, "created")) == 0) seen |= 8;
        else FAIL("unexpected event %d on %s", event.type, event.path);
    }
    SAME(seen, 15);
    expect_no_event(c);
    OK(zoo_set(c->handle, under(path, "same"), "x", 1, -1));
    expect_event(c, ZOO_CHANGED_EVENT, under(path, "same"));
}

static void many_watches_survive_reconnect(void) {
    /* More paths than fit in one setWatches frame of the C client (128 KiB). */
    struct client *c = connected_to(proxy_address(), 20000, NULL);
    char path[128];
    snprintf(path, sizeof path, "%s", fresh(c));
    static char names[3000][256];
    for (int i = 0; i < 3000; i++) {
        snprintf(names[i], sizeof names[i], "%s/%0100d", path, i);
        make(c, names[i], "");
        OK(zoo_wexists(c->handle, names[i], watch_only, c, NULL));
    }
    control("cut");
    wait_connects(c, 2);
    expect_no_event(c);
    for (int i = 0; i < 3000; i += 600) {
        OK(zoo_set(c->handle, names[i], "x", 1, -1));
        expect_event(c, ZOO_CHANGED_EVENT, names[i]);
    }
}

static void chroot_watch_paths_are_stripped(void) {
    struct client *plain = connected();
    char path[128], hosts[256];
    snprintf(path, sizeof path, "%s", fresh(plain));
    snprintf(hosts, sizeof hosts, "%s%s", server_address(), path);
    struct client *c = connected_to(hosts, 10000, NULL);
    watch_missing(c, "/a");
    make(plain, under(path, "a"), "");
    expect_event(c, ZOO_CREATED_EVENT, "/a");
    watch_children(c, "/");
    make(plain, under(path, "b"), "");
    expect_event(c, ZOO_CHILD_EVENT, "/");
}

const struct test_case watch_cases[] = {
    {"watch_fires_once", watch_fires_once},
    {"watch_exists", watch_exists},
    {"watch_child_list", watch_child_list},
    {"delete_fires_data_and_child_watches", delete_fires_data_and_child_watches},
    {"own_event_comes_before_reply", own_event_comes_before_reply},
    {"events_come_in_order_of_changes", events_come_in_order_of_changes},
    {"multi_fires_in_order_of_operations", multi_fires_in_order_of_operations},
    {"failed_multi_fires_nothing", failed_multi_fires_nothing},
    {"removed_watch_is_silent", removed_watch_is_silent},
    {"watches_survive_reconnect", watches_survive_reconnect},
    {"changes_while_disconnected_are_reported", changes_while_disconnected_are_reported},
    {"many_watches_survive_reconnect", many_watches_survive_reconnect},
    {"chroot_watch_paths_are_stripped", chroot_watch_paths_are_stripped},
    {NULL, NULL},
};
