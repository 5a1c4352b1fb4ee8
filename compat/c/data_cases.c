/* Nodes: create, read, write, delete, ACLs, transactions, large values, pipelining. */
#include "cases.h"

#define OPEN &ZOO_OPEN_ACL_UNSAFE

static void create_and_read(void) {
    struct client *c = connected();
    const char *path = fresh(c);
    char made[128];
    OK(zoo_create(c->handle, under(path, "a"), "value", 5, OPEN, 0, made, sizeof made));
    SAME_TEXT(made, under(path, "a"));
    char data[16];
    int length = sizeof data;
    struct Stat stat;
    OK(zoo_get(c->handle, made, 0, data, &length, &stat));
    SAME(length, 5);
    CHECK(memcmp(data, "value", 5) == 0);
    SAME(stat.version, 0);
    SAME(stat.cversion, 0);
    SAME(stat.aversion, 0);
    SAME(stat.ephemeralOwner, 0);
    SAME(stat.dataLength, 5);
    SAME(stat.numChildren, 0);
    CHECK(stat.czxid > 0);
    SAME(stat.mzxid, stat.czxid);
    SAME(stat.pzxid, stat.czxid);
    SAME(stat.mtime, stat.ctime);
    struct Stat parent = stat_of(c, path);
    SAME(parent.pzxid, stat.czxid);
    SAME(parent.cversion, 1);
    SAME(parent.numChildren, 1);
    SAME(parent.version, 0);
}

static void create_null_data(void) {
    struct client *c = connected();
    const char *path = fresh(c);
    make(c, under(path, "null"), NULL);
    char data[4];
    int length = sizeof data;
    struct Stat stat;
    OK(zoo_get(c->handle, under(path, "null"), 0, data, &length, &stat));
    SAME(length, -1);
    SAME(stat.dataLength, 0);
    OK(zoo_create(c->handle, under(path, "empty"), "", 0, OPEN, 0, NULL, 0));
    length = sizeof data;
    OK(zoo_get(c->handle, under(path, "empty"), 0, data, &length, &stat));
    SAME(length, 0);
}

static void create_errors(void) {
    struct client *c = connected();
    const char *path = fresh(c);
    SAME(zoo_create(c->handle, under(path, "no/parent"), "", 0, OPEN, 0, NULL, 0), ZNONODE);
    SAME(zoo_create(c->handle, path, "", 0, OPEN, 0, NULL, 0), ZNODEEXISTS);
    struct ACL_vector none = {0, NULL};
    SAME(zoo_create(c->handle, under(path, "a"), "", 0, &none, 0, NULL, 0), ZINVALIDACL);
    struct ACL entry = {ZOO_PERM_ALL, {"digest", "no-colon"}};
    struct ACL_vector bad = {1, &entry};
    SAME(zoo_create(c->handle, under(path, "a"), "", 0, &bad, 0, NULL, 0), ZINVALIDACL);
    SAME(zoo_create(c->handle, under(path, "a"), "", 0, &ZOO_CREATOR_ALL_ACL, 0, NULL, 0), ZINVALIDACL);
    OK(zoo_create(c->handle, under(path, "e"), "", 0, OPEN, ZOO_EPHEMERAL, NULL, 0));
    SAME(zoo_create(c->handle, under(path, "e/child"), "", 0, OPEN, 0, NULL, 0), ZNOCHILDRENFOREPHEMERALS);
    SAME(stat_of(c, path).numChildren, 1);
    SAME(stat_of(c, path).cversion, 1);
}

static void create2_returns_stat(void) {
    struct client *c = connected();
    const char *path = fresh(c);
    char made[128];
    struct Stat given;
    OK(zoo_create2(c->handle, under(path, "a"), "abc", 3, OPEN, 0, made, sizeof made, &given));
    SAME_TEXT(made, under(path, "a"));
    struct Stat seen = stat_of(c, made);
    SAME(given.czxid, seen.czxid);
    SAME(given.mzxid, seen.mzxid);
    SAME(given.pzxid, seen.pzxid);
    SAME(given.ctime, seen.ctime);
    SAME(given.dataLength, 3);
    SAME(given.version, 0);
    SAME(zoo_create2(c->handle, made, "", 0, OPEN, 0, NULL, 0, &given), ZNODEEXISTS);
}

static void create_sequential(void) {
    struct client *c = connected();
    const char *path = fresh(c);
    char made[128], expected[128];
    for (int i = 0; i < 12; i++) {
        OK(zoo_create(c->handle, under(path, "s-"), "", 0, OPEN, ZOO_SEQUENCE, made, sizeof made));
        snprintf(expected, sizeof expected, "%s/s-%010d", path, i);
        SAME_TEXT(made, expected);
    }
    /* The number comes from the parent: other children count, deletions do not. */
    make(c, under(path, "plain"), "");
    OK(zoo_delete(c->handle, under(path, "plain"), -1));
    OK(zoo_create(c->handle, under(path, "t-"), "", 0, OPEN, ZOO_SEQUENCE | ZOO_EPHEMERAL, made, sizeof made));
    snprintf(expected, sizeof expected, "%s/t-%010d", path, 13);
    SAME_TEXT(made, expected);
    CHECK(stat_of(c, made).ephemeralOwner == zoo_client_id(c->handle)->client_id);
    OK(zoo_create(c->handle, under(path, ""), "", 0, OPEN, ZOO_SEQUENCE, made, sizeof made));
    snprintf(expected, sizeof expected, "%s/%010d", path, 14);
    SAME_TEXT(made, expected);
}

static void create_ttl(void) {
    struct client *c = connected();
    const char *path = fresh(c);
    struct Stat stat;
    OK(zoo_create2_ttl(c->handle, under(path, "t"), "", 0, OPEN, ZOO_PERSISTENT_WITH_TTL, 300, NULL, 0, &stat));
    /* Inside the server the TTL lives in this field; clients see it as 0. */
    SAME(stat.ephemeralOwner, 0);
    char made[128];
    OK(zoo_create_ttl(c->handle, under(path, "s"), "", 0, OPEN, ZOO_PERSISTENT_SEQUENTIAL_WITH_TTL, 300, made, sizeof made));
    SAME_TEXT(made, under(path, "s0000000001"));
    OK(zoo_create_ttl(c->handle, under(path, "long"), "", 0, OPEN, ZOO_PERSISTENT_WITH_TTL, 3600000, NULL, 0));
    wait_gone(c, under(path, "t"));
    wait_gone(c, under(path, "s0000000001"));
    stat_of(c, under(path, "long"));
}

static void create_container(void) {
    struct client *c = connected();
    const char *path = fresh(c);
    OK(zoo_create(c->handle, under(path, "box"), "", 0, OPEN, ZOO_CONTAINER, NULL, 0));
    SAME(stat_of(c, under(path, "box")).ephemeralOwner, 0);
    make(c, under(path, "box/a"), "");
    OK(zoo_delete(c->handle, under(path, "box/a"), -1));
    wait_gone(c, under(path, "box"));
}

static void set_and_versions(void) {
    struct client *c = connected();
    const char *path = fresh(c);
    make(c, under(path, "a"), "one");
    struct Stat before = stat_of(c, under(path, "a")), after;
    OK(zoo_set2(c->handle, under(path, "a"), "three", 5, 0, &after));
    SAME(after.version, 1);
    SAME(after.dataLength, 5);
    SAME(after.czxid, before.czxid);
    SAME(after.pzxid, before.pzxid);
    SAME(after.ctime, before.ctime);
    CHECK(after.mzxid > before.mzxid);
    CHECK(after.mtime >= before.mtime);
    SAME(zoo_set(c->handle, under(path, "a"), "x", 1, 0), ZBADVERSION);
    OK(zoo_set(c->handle, under(path, "a"), "x", 1, -1));
    SAME(stat_of(c, under(path, "a")).version, 2);
    SAME_TEXT(text_of(c, under(path, "a")), "x");
    SAME(zoo_set(c->handle, under(path, "none"), "x", 1, -1), ZNONODE);
    SAME(stat_of(c, path).version, 0);
}

static void delete_errors(void) {
    struct client *c = connected();
    const char *path = fresh(c);
    make(c, under(path, "a"), "");
    make(c, under(path, "a/b"), "");
    SAME(zoo_delete(c->handle, under(path, "a"), -1), ZNOTEMPTY);
    SAME(zoo_delete(c->handle, under(path, "a"), 7), ZBADVERSION);
    SAME(zoo_delete(c->handle, under(path, "none"), -1), ZNONODE);
    SAME(zoo_delete(c->handle, under(path, "no/parent"), -1), ZNONODE);
    SAME(zoo_delete(c->handle, "/", -1), ZBADARGUMENTS);
    SAME(zoo_delete(c->handle, "/zookeeper", -1), ZBADARGUMENTS);
    OK(zoo_delete(c->handle, under(path, "a/b"), 0));
    OK(zoo_delete(c->handle, under(path, "a"), 0));
    struct Stat stat = stat_of(c, path);
    SAME(stat.numChildren, 0);
    SAME(stat.cversion, 2);
}

static void bad_paths(void) {
    struct client *c = connected();
    const char *path = fresh(c);
    SAME(zoo_create(c->handle, "relative", "", 0, OPEN, 0, NULL, 0), ZBADARGUMENTS);
    SAME(zoo_create(c->handle, under(path, "a/"), "", 0, OPEN, 0, NULL, 0), ZBADARGUMENTS);
    SAME(zoo_create(c->handle, under(path, "/a"), "", 0, OPEN, 0, NULL, 0), ZBADARGUMENTS);
    SAME(zoo_create(c->handle, under(path, ".."), "", 0, OPEN, 0, NULL, 0), ZBADARGUMENTS);
    SAME(zoo_create(c->handle, under(path, "a\001b"), "", 0, OPEN, 0, NULL, 0), ZBADARGUMENTS);
    /* Names that only look strange are fine. */
    make(c, under(path, "..."), "dots");
    make(c, under(path, "with blank"), "blank");
    make(c, under(path, "\xe6\x96\x87\xe5\xad\x97"), "utf-8");
    SAME_TEXT(text_of(c, under(path, "\xe6\x96\x87\xe5\xad\x97")), "utf-8");
    SAME(stat_of(c, path).numChildren, 3);
}

static void children(void) {
    struct client *c = connected();
    const char *path = fresh(c);
    make(c, under(path, "x"), "");
    make(c, under(path, "y"), "");
    struct String_vector names;
    struct Stat stat;
    OK(zoo_get_children2(c->handle, path, 0, &names, &stat));
    SAME(names.count, 2);
    int x = strcmp(names.data[0], "x") == 0 ? 0 : 1;
    SAME_TEXT(names.data[x], "x");
    SAME_TEXT(names.data[1 - x], "y");
    deallocate_String_vector(&names);
    SAME(stat.numChildren, 2);
    SAME(stat.cversion, 2);
    SAME(stat.pzxid, stat_of(c, under(path, "y")).czxid);
    OK(zoo_get_children(c->handle, under(path, "x"), 0, &names));
    SAME(names.count, 0);
    deallocate_String_vector(&names);
    SAME(zoo_get_children(c->handle, under(path, "none"), 0, &names), ZNONODE);
    OK(zoo_get_children(c->handle, "/", 0, &names));
    CHECK(names.count >= 2);
    deallocate_String_vector(&names);
}

static void children_10000(void) {
    struct client *c = connected();
    const char *path = fresh(c);
    static char names[1000][64];
    static zoo_op_t ops[1000];
    static zoo_op_result_t results[1000];
    for (int base = 0; base < 10000; base += 1000) {
        for (int i = 0; i < 1000; i++) {
            snprintf(names[i], sizeof names[i], "%s/child-%05d", path, base + i);
            zoo_create_op_init(&ops[i], names[i], "", 0, OPEN, 0, NULL, 0);
        }
        OK(zoo_multi(c->handle, 1000, ops, results));
    }
    struct String_vector found;
    struct Stat stat;
    OK(zoo_get_children2(c->handle, path, 0, &found, &stat));
    SAME(found.count, 10000);
    SAME(stat.numChildren, 10000);
    SAME(stat.cversion, 10000);
    static char seen[10000];
    for (int i = 0; i < found.count; i++) {
        int number = -1;
        CHECK(sscanf(found.data[i], "child-%d", &number) == 1 && number >= 0 && number < 10000 && !seen[number]);
        seen[number] = 1;
    }
    deallocate_String_vector(&found);
    for (int base = 0; base < 10000; base += 1000) {
        for (int i = 0; i < 1000; i++) {
            snprintf(names[i], sizeof names[i], "%s/child-%05d", path, base + i);
            zoo_delete_op_init(&ops[i], names[i], -1);
        }
        OK(zoo_multi(c->handle, 1000, ops, results));
    }
    SAME(stat_of(c, path).numChildren, 0);
}

static void large_value(void) {
    struct client *c = connected();
    const char *path = fresh(c);
    int length = 1048000, got = length + 10;
    char *data = malloc((size_t)length), *back = malloc((size_t)got);
    for (int i = 0; i < length; i++) data[i] = (char)(i * 31 + i / 253);
    OK(zoo_create(c->handle, under(path, "a"), data, length, OPEN, 0, NULL, 0));
    OK(zoo_get(c->handle, under(path, "a"), 0, back, &got, NULL));
    SAME(got, length);
    CHECK(memcmp(data, back, (size_t)length) == 0);
    OK(zoo_set(c->handle, under(path, "a"), data + 1, length - 1, -1));
    SAME(stat_of(c, under(path, "a")).dataLength, length - 1);
}

static int write_oversized(struct client *c, const char *path) {
    int length = 2 << 20;
    char *data = calloc(1, (size_t)length);
    return zoo_set(c->handle, path, data, length, -1);
}

static void oversized_request_changes_nothing(void) {
    struct client *c = connected();
    char path[128];
    snprintf(path, sizeof path, "%s", fresh(c));
    int64_t session = zoo_client_id(c->handle)->client_id;
    CHECK(write_oversized(c, path) != ZOK);
    int code;
    while ((code = zoo_exists(c->handle, path, 0, NULL)) == ZCONNECTIONLOSS) wait_connects(c, 2);
    OK(code);
    SAME(stat_of(c, path).version, 0);
    CHECK(zoo_client_id(c->handle)->client_id == session);
}

static void oversized_request_closes_connection(void) {
    struct client *c = connected();
    SAME(write_oversized(c, fresh(c)), ZCONNECTIONLOSS);
}

static void acl_set_and_get(void) {
    struct client *c = connected();
    const char *path = fresh(c);
    make(c, under(path, "a"), "v");
    struct ACL_vector acl;
    struct Stat stat;
    OK(zoo_get_acl(c->handle, under(path, "a"), &acl, &stat));
    SAME(acl.count, 1);
    SAME(acl.data[0].perms, 31);
    SAME_TEXT(acl.data[0].id.scheme, "world");
    SAME_TEXT(acl.data[0].id.id, "anyone");
    SAME(stat.aversion, 0);
    deallocate_ACL_vector(&acl);
    struct ACL entries[] = {{ZOO_PERM_READ | ZOO_PERM_ADMIN, {"world", "anyone"}}, {ZOO_PERM_ALL, {"ip", "10.0.0.0/8"}}};
    struct ACL_vector two = {2, entries};
    SAME(zoo_set_acl(c->handle, under(path, "a"), 5, &two), ZBADVERSION);
    OK(zoo_set_acl(c->handle, under(path, "a"), 0, &two));
    SAME(zoo_set(c->handle, under(path, "a"), "x", 1, -1), ZNOAUTH);
    SAME(zoo_create(c->handle, under(path, "a/b"), "", 0, OPEN, 0, NULL, 0), ZNOAUTH);
    SAME_TEXT(text_of(c, under(path, "a")), "v");
    OK(zoo_get_acl(c->handle, under(path, "a"), &acl, &stat));
    SAME(acl.count, 2);
    SAME(acl.data[0].perms, 17);
    SAME_TEXT(acl.data[1].id.id, "10.0.0.0/8");
    SAME(stat.aversion, 1);
    SAME(stat.version, 0);
    deallocate_ACL_vector(&acl);
    /* Deleting asks the parent, which is open. */
    OK(zoo_delete(c->handle, under(path, "a"), -1));
    SAME(zoo_get_acl(c->handle, under(path, "a"), &acl, &stat), ZNONODE);
}

struct answer {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int given, code;
};

static void take_answer(int code, const void *context) {
    struct answer *answer = (struct answer *)context;
    pthread_mutex_lock(&answer->lock);
    answer->given = 1;
    answer->code = code;
    pthread_cond_broadcast(&answer->changed);
    pthread_mutex_unlock(&answer->lock);
}

static int authenticate(struct client *c, const char *scheme, const char *credentials) {
    struct answer answer = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0};
    OK(zoo_add_auth(c->handle, scheme, credentials, (int)strlen(credentials), take_answer, &answer));
    pthread_mutex_lock(&answer.lock);
    while (!answer.given) pthread_cond_wait(&answer.changed, &answer.lock);
    pthread_mutex_unlock(&answer.lock);
    return answer.code;
}

static void auth_digest(void) {
    struct client *owner = connected(), *other = connected();
    const char *path = fresh(owner);
    OK(authenticate(owner, "digest", "pat:secret"));
    OK(zoo_create(owner->handle, under(path, "mine"), "v", 1, &ZOO_CREATOR_ALL_ACL, 0, NULL, 0));
    struct ACL_vector acl;
    OK(zoo_get_acl(owner->handle, under(path, "mine"), &acl, NULL));
    SAME(acl.count, 1);
    SAME_TEXT(acl.data[0].id.scheme, "digest");
    CHECK(strncmp(acl.data[0].id.id, "pat:", 4) == 0);
    catch_up(other);
    char data[4];
    int length = sizeof data;
    SAME(zoo_get(other->handle, under(path, "mine"), 0, data, &length, NULL), ZNOAUTH);
    SAME(zoo_set_acl(other->handle, under(path, "mine"), -1, OPEN), ZNOAUTH);
    struct String_vector names;
    SAME(zoo_get_children(other->handle, under(path, "mine"), 0, &names), ZNOAUTH);
    SAME(zoo_exists(other->handle, under(path, "mine"), 0, NULL), ZNOAUTH);
    OK(authenticate(other, "digest", "pat:wrong"));
    SAME(zoo_set(other->handle, under(path, "mine"), "x", 1, -1), ZNOAUTH);
    OK(authenticate(other, "digest", "pat:secret"));
    OK(zoo_set(other->handle, under(path, "mine"), "x", 1, -1));
    OK(zoo_delete(other->handle, under(path, "mine"), -1));
}

static void auth_survives_reconnect(void) {
    struct client *c = connected_to(proxy_address(), 10000, NULL);
    const char *path = fresh(c);
    OK(authenticate(c, "digest", "kim:secret"));
    OK(zoo_create(c->handle, under(path, "mine"), "v", 1, &ZOO_CREATOR_ALL_ACL, 0, NULL, 0));
    control("cut");
    wait_connects(c, 2);
    OK(zoo_set(c->handle, under(path, "mine"), "w", 1, 0));
}

static void auth_super(void) {
    struct client *owner = connected(), *super = connected();
    const char *path = fresh(owner);
    struct ACL entry = {ZOO_PERM_ALL, {"digest", "nobody:AAAAAAAAAAAAAAAAAAAAAAAAAAA="}};
    struct ACL_vector locked = {1, &entry};
    OK(zoo_create(owner->handle, under(path, "a"), "v", 1, &locked, 0, NULL, 0));
    SAME(zoo_set(owner->handle, under(path, "a"), "x", 1, -1), ZNOAUTH);
    OK(authenticate(super, "digest", "super:test"));
    OK(zoo_set(super->handle, under(path, "a"), "x", 1, -1));
}

static void auth_unknown_scheme(void) {
    struct client *c = connected();
    SAME(authenticate(c, "no-such-scheme", "x"), ZAUTHFAILED);
}

static void acl_ip(void) {
    struct client *c = connected();
    const char *path = fresh(c);
    struct ACL here = {ZOO_PERM_ALL, {"ip", "127.0.0.1"}}, elsewhere = {ZOO_PERM_ALL, {"ip", "10.1.2.3"}};
    struct ACL_vector ours = {1, &here}, theirs = {1, &elsewhere};
    OK(zoo_create(c->handle, under(path, "ours"), "", 0, &ours, 0, NULL, 0));
    OK(zoo_set(c->handle, under(path, "ours"), "x", 1, -1));
    OK(zoo_create(c->handle, under(path, "theirs"), "", 0, &theirs, 0, NULL, 0));
    SAME(zoo_set(c->handle, under(path, "theirs"), "x", 1, -1), ZNOAUTH);
}

static void multi_succeeds(void) {
    struct client *c = connected();
    const char *path = fresh(c);
    make(c, under(path, "old"), "v");
    zoo_op_t ops[5];
    zoo_op_result_t results[5];
    char first[128], second[128];
    struct Stat stat;
    zoo_check_op_init(&ops[0], under(path, "old"), 0);
    zoo_create_op_init(&ops[1], under(path, "new-"), "n", 1, OPEN, ZOO_SEQUENCE, first, sizeof first);
    zoo_create_op_init(&ops[2], under(path, "new-"), "n", 1, OPEN, ZOO_SEQUENCE, second, sizeof second);
    zoo_set_op_init(&ops[3], under(path, "old"), "w", 1, 0, &stat);
    zoo_delete_op_init(&ops[4], under(path, "old"), 1);
    OK(zoo_multi(c->handle, 5, ops, results));
    for (int i = 0; i < 5; i++) SAME(results[i].err, ZOK);
    SAME_TEXT(first, under(path, "new-0000000001"));
    SAME_TEXT(second, under(path, "new-0000000002"));
    SAME(stat.version, 1);
    SAME(zoo_exists(c->handle, under(path, "old"), 0, NULL), ZNONODE);
    SAME(stat_of(c, first).czxid, stat_of(c, second).czxid);
    SAME(stat_of(c, path).cversion, 4);
    SAME(stat_of(c, path).pzxid, stat_of(c, second).czxid);
}

static void multi_is_atomic(void) {
    struct client *c = connected();
    const char *path = fresh(c);
    make(c, under(path, "a"), "v");
    struct Stat before = stat_of(c, path);
    zoo_op_t ops[4];
    zoo_op_result_t results[4];
    char made[128];
    zoo_create_op_init(&ops[0], under(path, "s-"), "", 0, OPEN, ZOO_SEQUENCE, made, sizeof made);
    zoo_set_op_init(&ops[1], under(path, "a"), "w", 1, -1, NULL);
    zoo_delete_op_init(&ops[2], under(path, "none"), -1);
    zoo_delete_op_init(&ops[3], under(path, "a"), -1);
    SAME(zoo_multi(c->handle, 4, ops, results), ZNONODE);
    SAME(results[0].err, ZOK);
    SAME(results[1].err, ZOK);
    SAME(results[2].err, ZNONODE);
    SAME(results[3].err, ZRUNTIMEINCONSISTENCY);
    SAME_TEXT(text_of(c, under(path, "a")), "v");
    struct Stat after = stat_of(c, path);
    SAME(after.cversion, before.cversion);
    SAME(after.pzxid, before.pzxid);
    SAME(after.numChildren, 1);
    /* The sequence counter was rolled back too. */
    OK(zoo_create(c->handle, under(path, "s-"), "", 0, OPEN, ZOO_SEQUENCE, made, sizeof made));
    SAME_TEXT(made, under(path, "s-0000000001"));
}

static void multi_check_version(void) {
    struct client *c = connected();
    const char *path = fresh(c);
    zoo_op_t ops[2];
    zoo_op_result_t results[2];
    zoo_check_op_init(&ops[0], path, 3);
    zoo_create_op_init(&ops[1], under(path, "a"), "", 0, OPEN, 0, NULL, 0);
    SAME(zoo_multi(c->handle, 2, ops, results), ZBADVERSION);
    SAME(results[0].err, ZBADVERSION);
    SAME(results[1].err, ZRUNTIMEINCONSISTENCY);
    zoo_check_op_init(&ops[0], path, 0);
    OK(zoo_multi(c->handle, 2, ops, results));
}

/* Completions in the order they were called, for the pipelining cases. */
struct completions {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int count;
    int order[4096];
    int code[4096];
    char text[4096][24];
};

static struct completions done = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void note_completion(int code, const char *text, int length, const void *number) {
    pthread_mutex_lock(&done.lock);
    done.order[done.count] = (int)(intptr_t)number;
    done.code[done.count] = code;
    snprintf(done.text[done.count], sizeof done.text[0], "%.*s", length < 0 ? 0 : length, text ? text : "");
    done.count++;
    pthread_cond_broadcast(&done.changed);
    pthread_mutex_unlock(&done.lock);
}

static void note_data(int code, const char *data, int length, const struct Stat *stat, const void *number) {
    (void)stat;
    note_completion(code, data, length, number);
}
static void note_stat(int code, const struct Stat *stat, const void *number) {
    (void)stat;
    note_completion(code, NULL, 0, number);
}
static void note_string(int code, const char *text, const void *number) {
    note_completion(code, text, text ? (int)strlen(text) : 0, number);
}

static void wait_completions(int count) {
    pthread_mutex_lock(&done.lock);
    while (done.count < count) pthread_cond_wait(&done.changed, &done.lock);
    pthread_mutex_unlock(&done.lock);
    for (int i = 0; i < count; i++) SAME(done.order[i], i);
}

static void pipelined_requests_in_order(void) {
    struct client *c = connected();
    char path[128];
    snprintf(path, sizeof path, "%s", fresh(c));
    for (int i = 0; i < 100; i++) {
        char name[32];
        snprintf(name, sizeof name, "n%d", i);
        OK(zoo_acreate(c->handle, under(path, name), "", 0, OPEN, 0, note_string, (void *)(intptr_t)i));
    }
    wait_completions(100);
    for (int i = 0; i < 100; i++) SAME(done.code[i], ZOK);
    SAME(stat_of(c, path).numChildren, 100);
}

static void pipelined_reads_see_earlier_writes(void) {
    struct client *c = connected();
    char path[128];
    snprintf(path, sizeof path, "%s", fresh(c));
    for (int i = 0; i < 1000; i++) {
        char value[24];
        int length = snprintf(value, sizeof value, "value %d", i);
        OK(zoo_aset(c->handle, path, value, length, i, note_stat, (void *)(intptr_t)(2 * i)));
        OK(zoo_aget(c->handle, path, 0, note_data, (void *)(intptr_t)(2 * i + 1)));
    }
    wait_completions(2000);
    for (int i = 0; i < 1000; i++) {
        char value[24];
        snprintf(value, sizeof value, "value %d", i);
        SAME(done.code[2 * i], ZOK);
        SAME(done.code[2 * i + 1], ZOK);
        SAME_TEXT(done.text[2 * i + 1], value);
    }
}

static void pipelined_errors_in_order(void) {
    struct client *c = connected();
    char path[128];
    snprintf(path, sizeof path, "%s", fresh(c));
    for (int i = 0; i < 300; i++) {
        void *number = (void *)(intptr_t)i;
        if (i % 3 == 0) OK(zoo_aset(c->handle, path, "x", 1, -1, note_stat, number));
        else if (i % 3 == 1) OK(zoo_aset(c->handle, path, "x", 1, 100000, note_stat, number));
        else OK(zoo_aexists(c->handle, under(path, "none"), 0, note_stat, number));
    }
    wait_completions(300);
    for (int i = 0; i < 300; i++) SAME(done.code[i], i % 3 == 0 ? ZOK : i % 3 == 1 ? ZBADVERSION : ZNONODE);
    SAME(stat_of(c, path).version, 100);
}

static void sync_answers_path(void) {
    struct client *c = connected();
    char path[128];
    snprintf(path, sizeof path, "%.23s", fresh(c));
    OK(zoo_async(c->handle, path, note_string, NULL));
    wait_completions(1);
    SAME(done.code[0], ZOK);
    SAME_TEXT(done.text[0], path);
}

struct worker {
    struct client *client;
    char path[128];
    /* The first call that failed ends the worker. */
    int code;
    int wrong;
};

static void *work(void *argument) {
    struct worker *worker = argument;
    for (int i = 0; i < 200; i++) {
        char value[24], back[24];
        int length = snprintf(value, sizeof value, "%d", i), got = sizeof back;
        worker->code = zoo_set(worker->client->handle, worker->path, value, length, i);
        if (worker->code != ZOK) break;
        worker->code = zoo_get(worker->client->handle, worker->path, 0, back, &got, NULL);
        if (worker->code != ZOK) break;
        if (got != length || memcmp(value, back, (size_t)length) != 0) worker->wrong++;
    }
    return NULL;
}

static void threads_on_one_handle(void) {
    struct client *c = connected();
    const char *path = fresh(c);
    static struct worker workers[32];
    pthread_t threads[32];
    for (int i = 0; i < 32; i++) {
        workers[i].client = c;
        snprintf(workers[i].path, sizeof workers[i].path, "%s/w%d", path, i);
        make(c, workers[i].path, "");
        CHECK(pthread_create(&threads[i], NULL, work, &workers[i]) == 0);
    }
    for (int i = 0; i < 32; i++) {
        pthread_join(threads[i], NULL);
        if (workers[i].code != ZOK) FAIL("worker %d: %s", i, zerror(workers[i].code));
        SAME(workers[i].wrong, 0);
    }
}

const struct test_case data_cases[] = {
    {"create_and_read", create_and_read},
    {"create_null_data", create_null_data},
    {"create_errors", create_errors},
    {"create2_returns_stat", create2_returns_stat},
    {"create_sequential", create_sequential},
    {"create_ttl", create_ttl},
    {"create_container", create_container},
    {"set_and_versions", set_and_versions},
    {"delete_errors", delete_errors},
    {"bad_paths", bad_paths},
    {"children", children},
    {"children_10000", children_10000},
    {"large_value", large_value},
    {"oversized_request_changes_nothing", oversized_request_changes_nothing},
    {"oversized_request_closes_connection", oversized_request_closes_connection},
    {"acl_set_and_get", acl_set_and_get},
    {"acl_ip", acl_ip},
    {"auth_digest", auth_digest},
    {"auth_survives_reconnect", auth_survives_reconnect},
    {"auth_super", auth_super},
    {"auth_unknown_scheme", auth_unknown_scheme},
    {"multi_succeeds", multi_succeeds},
    {"multi_is_atomic", multi_is_atomic},
    {"multi_check_version", multi_check_version},
    {"pipelined_requests_in_order", pipelined_requests_in_order},
    {"pipelined_reads_see_earlier_writes", pipelined_reads_see_earlier_writes},
    {"pipelined_errors_in_order", pipelined_errors_in_order},
    {"sync_answers_path", sync_answers_path},
    {"threads_on_one_handle", threads_on_one_handle},
    {NULL, NULL},
};
