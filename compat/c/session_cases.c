/* Sessions: timeouts, re-attaching, expiry, ephemeral nodes, chroot, a server that is killed. */
#include "cases.h"

#include <unistd.h>

#define OPEN &ZOO_OPEN_ACL_UNSAFE

static void make_ephemeral(struct client *c, const char *path) {
    OK(zoo_create(c->handle, path, "", 0, OPEN, ZOO_EPHEMERAL, NULL, 0));
}

static void timeout_is_negotiated(void) {
    /* The server's limits are 1,000 and 60,000 ms. */
    SAME(zoo_recv_timeout(connected_to(server_address(), 10, NULL)->handle), 1000);
    SAME(zoo_recv_timeout(connected_to(server_address(), 5000, NULL)->handle), 5000);
    SAME(zoo_recv_timeout(connected_to(server_address(), 3600000, NULL)->handle), 60000);
}

static void close_removes_ephemerals(void) {
    struct client *c = connected(), *other = connected();
    const char *path = fresh(other);
    while (zoo_exists(c->handle, path, 0, NULL) == ZNONODE) {}
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "e%d", i);
        make_ephemeral(c, under(path, name));
    }
    make(c, under(path, "stays"), "");
    SAME(stat_of(c, under(path, "e0")).ephemeralOwner, zoo_client_id(c->handle)->client_id);
    close_client(c);
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "e%d", i);
        SAME(zoo_exists(other->handle, under(path, name), 0, NULL), ZNONODE);
    }
    SAME(stat_of(other, path).numChildren, 1);
}

static void reattach_after_lost_socket(void) {
    struct client *c = connected_to(proxy_address(), 20000, NULL);
    const char *path = fresh(c);
    make_ephemeral(c, under(path, "e"));
    clientid_t before = *zoo_client_id(c->handle);
    for (int round = 2; round < 5; round++) {
        control("cut");
        wait_connects(c, round);
        SAME(zoo_client_id(c->handle)->client_id, before.client_id);
        SAME(stat_of(c, under(path, "e")).ephemeralOwner, before.client_id);
        make(c, under(path, round == 2 ? "2" : round == 3 ? "3" : "4"), "");
    }
}

static void reattach_from_another_handle(void) {
    struct client *first = connected_to(proxy_address(), 20000, NULL);
    char path[128];
    snprintf(path, sizeof path, "%s", fresh(first));
    make_ephemeral(first, under(path, "e"));
    clientid_t id = *zoo_client_id(first->handle);
    control("refuse");
    struct client *second = connected_to(server_address(), 20000, &id);
    SAME(zoo_client_id(second->handle)->client_id, id.client_id);
    SAME(stat_of(second, under(path, "e")).ephemeralOwner, id.client_id);
    OK(zoo_delete(second->handle, under(path, "e"), -1));
    close_client(second);
}

static struct client *owner_of_session_with_intruder(void) {
    struct client *c = connected();
    const char *path = fresh(c);
    make_ephemeral(c, under(path, "e"));
    clientid_t id = *zoo_client_id(c->handle);
    id.passwd[3] ^= 0x55;
    struct client *intruder = open_client(server_address(), 10000, &id);
    wait_expired(intruder);
    SAME(zoo_state(intruder->handle), ZOO_EXPIRED_SESSION_STATE);
    int code;
    while ((code = zoo_exists(c->handle, under(path, "e"), 0, NULL)) == ZCONNECTIONLOSS) {}
    SAME(code, ZOK);
    SAME(stat_of(c, under(path, "e")).ephemeralOwner, id.client_id);
    return c;
}

static void wrong_password_is_refused(void) { owner_of_session_with_intruder(); }

static void wrong_password_leaves_owner_connected(void) { SAME(owner_of_session_with_intruder()->connects, 1); }

static void closed_session_cannot_come_back(void) {
    struct client *c = connected();
    clientid_t id = *zoo_client_id(c->handle);
    close_client(c);
    struct client *late = open_client(server_address(), 10000, &id);
    wait_expired(late);
    SAME(zoo_set(late->handle, "/", "", 0, -1), ZINVALIDSTATE);
}

static void silent_client_expires(void) {
    struct client *c = connected_to(proxy_address(), 1000, NULL), *other = connected();
    char path[128];
    snprintf(path, sizeof path, "%s", fresh(c));
    make_ephemeral(c, under(path, "e"));
    clientid_t id = *zoo_client_id(c->handle);
    while (zoo_exists(other->handle, under(path, "e"), 0, NULL) == ZNONODE) {}
    control("stall");
    wait_gone(other, under(path, "e"));
    control("refuse");
    control("accept");
    wait_expired(c);
    struct client *late = open_client(server_address(), 1000, &id);
    wait_expired(late);
}

static void idle_client_is_kept_by_pings(void) {
    struct client *c = connected_to(server_address(), 1000, NULL), *other = connected();
    const char *path = fresh(c);
    make_ephemeral(c, under(path, "e"));
    /* The case is the waiting: four timeouts without a request of the program's own. */
    sleep(4);
    SAME(stat_of(other, under(path, "e")).ephemeralOwner, zoo_client_id(c->handle)->client_id);
    SAME(c->connects, 1);
    SAME(c->expired, 0);
}

static void session_and_data_survive_kill(void) {
    struct client *c = connected_to(proxy_address(), 30000, NULL);
    const char *path = fresh(c);
    make(c, under(path, "data"), "kept");
    make_ephemeral(c, under(path, "e"));
    struct Stat before = stat_of(c, under(path, "data"));
    int64_t session = zoo_client_id(c->handle)->client_id;
    control("restart");
    wait_connects(c, 2);
    SAME(zoo_client_id(c->handle)->client_id, session);
    SAME(stat_of(c, under(path, "e")).ephemeralOwner, session);
    struct Stat after = stat_of(c, under(path, "data"));
    CHECK(memcmp(&before, &after, sizeof before) == 0);
    SAME_TEXT(text_of(c, under(path, "data")), "kept");
    OK(zoo_set(c->handle, under(path, "data"), "new", 3, 0));
    CHECK(stat_of(c, under(path, "data")).mzxid > before.mzxid);
    close_client(c);
    struct client *other = connected();
    SAME(zoo_exists(other->handle, under(path, "e"), 0, NULL), ZNONODE);
}

static void watches_survive_server_restart(void) {
    struct client *c = connected_to(proxy_address(), 30000, NULL);
    const char *path = fresh(c);
    char data[4];
    int length = sizeof data;
    OK(zoo_get(c->handle, path, 1, data, &length, NULL));
    control("restart");
    wait_connects(c, 2);
    expect_no_event(c);
    OK(zoo_set(c->handle, path, "x", 1, -1));
    expect_event(c, ZOO_CHANGED_EVENT, path);
}

static void chroot_client(void) {
    struct client *plain = connected();
    char path[128], hosts[256], made[128];
    snprintf(path, sizeof path, "%s", fresh(plain));
    snprintf(hosts, sizeof hosts, "%s%s/app", server_address(), path);
    struct client *c = connected_to(hosts, 10000, NULL);
    SAME(zoo_create(c->handle, "/a", "", 0, OPEN, 0, made, sizeof made), ZNONODE);
    make(plain, under(path, "app"), "root");
    OK(zoo_create(c->handle, "/a", "v", 1, OPEN, ZOO_SEQUENCE, made, sizeof made));
    SAME_TEXT(made, "/a0000000000");
    catch_up(plain);
    SAME_TEXT(text_of(plain, under(path, "app/a0000000000")), "v");
    SAME_TEXT(text_of(c, "/"), "root");
    zoo_op_t op;
    zoo_op_result_t result;
    zoo_create_op_init(&op, "/b", "", 0, OPEN, 0, made, sizeof made);
    OK(zoo_multi(c->handle, 1, &op, &result));
    catch_up(plain);
    stat_of(plain, under(path, "app/b"));
}

static void many_sessions(void) {
    struct client *clients[100];
    char path[128];
    for (int i = 0; i < 100; i++) clients[i] = connected();
    snprintf(path, sizeof path, "%s", fresh(clients[0]));
    for (int i = 0; i < 100; i++) {
        char name[16];
        snprintf(name, sizeof name, "e%d", i);
        make_ephemeral(clients[i], under(path, name));
        for (int j = 0; j < i; j++)
            CHECK(zoo_client_id(clients[i]->handle)->client_id != zoo_client_id(clients[j]->handle)->client_id);
    }
    for (int i = 1; i < 100; i++) close_client(clients[i]);
    SAME(stat_of(clients[0], path).numChildren, 1);
}

const struct test_case session_cases[] = {
    {"timeout_is_negotiated", timeout_is_negotiated},
    {"close_removes_ephemerals", close_removes_ephemerals},
    {"reattach_after_lost_socket", reattach_after_lost_socket},
    {"reattach_from_another_handle", reattach_from_another_handle},
    {"wrong_password_is_refused", wrong_password_is_refused},
    {"wrong_password_leaves_owner_connected", wrong_password_leaves_owner_connected},
    {"closed_session_cannot_come_back", closed_session_cannot_come_back},
    {"silent_client_expires", silent_client_expires},
    {"idle_client_is_kept_by_pings", idle_client_is_kept_by_pings},
    {"session_and_data_survive_kill", session_and_data_survive_kill},
    {"watches_survive_server_restart", watches_survive_server_restart},
    {"chroot", chroot_client},
    {"many_sessions", many_sessions},
    {NULL, NULL},
};
