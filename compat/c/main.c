/* Runs every case in a process of its own, so that a crash or a hang fails that case only. */
#include "cases.h"

#include <netdb.h>
#include <stdarg.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CASE_LIMIT_S 60
#define WAIT_LIMIT_S 30

static int detail_fd;
static const char *case_name;

void failed(const char *file, int line, const char *format, ...) {
    char text[1024];
    int used = snprintf(text, sizeof text, "%s:%d: ", file, line);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text + used, sizeof text - (size_t)used, format, arguments);
    va_end(arguments);
    if (write(detail_fd, text, strlen(text)) < 0) _exit(2);
    _exit(1);
}

static const char *needed(const char *variable) {
    const char *value = getenv(variable);
    if (value == NULL) {
        fprintf(stderr, "%s is not set: start this through compat/run\n", variable);
        exit(2);
    }
    return value;
}

const char *server_address(void) { return needed("COMPAT_SERVER"); }
const char *proxy_address(void) { return needed("COMPAT_PROXY"); }

void control(const char *word) {
    char host[64];
    snprintf(host, sizeof host, "%s", needed("COMPAT_CONTROL"));
    char *port = strchr(host, ':');
    *port++ = 0;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    CHECK(getaddrinfo(host, port, &hints, &found) == 0);
    int connection = socket(found->ai_family, found->ai_socktype, 0);
    CHECK(connect(connection, found->ai_addr, found->ai_addrlen) == 0);
    freeaddrinfo(found);
    CHECK(dprintf(connection, "%s\n", word) > 0);
    char answer[512];
    ssize_t length = read(connection, answer, sizeof answer - 1);
    CHECK(length > 0);
    answer[length] = 0;
    close(connection);
    if (strncmp(answer, "ok", 2) != 0) FAIL("control %s: %s", word, answer);
}

void keep_event(zhandle_t *handle, int type, int state, const char *path, void *context) {
    struct client *client = context;
    (void)handle;
    pthread_mutex_lock(&client->lock);
    if (type == ZOO_SESSION_EVENT) {
        client->state = state;
        if (state == ZOO_CONNECTED_STATE) client->connects++;
        if (state == ZOO_EXPIRED_SESSION_STATE) client->expired = 1;
    } else if (client->event_count < MAX_EVENTS) {
        struct event *event = &client->events[client->event_count++];
        event->type = type;
        snprintf(event->path, sizeof event->path, "%s", path);
    }
    pthread_cond_broadcast(&client->changed);
    pthread_mutex_unlock(&client->lock);
}

/* Session events go to the handle's own watcher only: other watchers get copies that must not be counted twice. */
static void handle_watcher(zhandle_t *handle, int type, int state, const char *path, void *context) {
    keep_event(handle, type, state, path, context);
}

static struct timespec wait_limit(void) {
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += WAIT_LIMIT_S;
    return limit;
}

#define WAIT_FOR(client, condition, ...) \
    do { \
        struct timespec limit_ = wait_limit(); \
        pthread_mutex_lock(&(client)->lock); \
        while (!(condition)) \
            if (pthread_cond_timedwait(&(client)->changed, &(client)->lock, &limit_) != 0) FAIL(__VA_ARGS__); \
        pthread_mutex_unlock(&(client)->lock); \
    } while (0)

struct client *open_client(const char *hosts, int timeout_ms, const clientid_t *id) {
    struct client *client = calloc(1, sizeof *client);
    CHECK(client != NULL);
    pthread_mutex_init(&client->lock, NULL);
    pthread_cond_init(&client->changed, NULL);
    client->handle = zookeeper_init(hosts, handle_watcher, timeout_ms, id, client, 0);
    CHECK(client->handle != NULL);
    return client;
}

struct client *connected_to(const char *hosts, int timeout_ms, const clientid_t *id) {
    struct client *client = open_client(hosts, timeout_ms, id);
    wait_connects(client, 1);
    return client;
}

struct client *connected(void) { return connected_to(server_address(), 10000, NULL); }

void close_client(struct client *client) {
    OK(zookeeper_close(client->handle));
    client->handle = NULL;
}

void wait_connects(struct client *client, int connects) {
    WAIT_FOR(client, client->connects >= connects, "connected %d times, expected %d", client->connects, connects);
}

void wait_expired(struct client *client) {
    WAIT_FOR(client, client->expired, "the session was not reported expired, state %d", client->state);
}

void expect_event(struct client *client, int type, const char *path) {
    WAIT_FOR(client, client->event_next < client->event_count, "no event, expected type %d on %s", type, path);
    struct event *event = &client->events[client->event_next++];
    if (event->type != type || strcmp(event->path, path) != 0)
        FAIL("event %d on %s, expected %d on %s", event->type, event->path, type, path);
}

struct barrier {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int open;
};

static void open_barrier(int code, const struct Stat *stat, const void *context) {
    struct barrier *barrier = (struct barrier *)context;
    (void)code;
    (void)stat;
    pthread_mutex_lock(&barrier->lock);
    barrier->open = 1;
    pthread_cond_broadcast(&barrier->changed);
    pthread_mutex_unlock(&barrier->lock);
}

void expect_no_event(struct client *client) {
    /* An asynchronous call, because only its completion is behind earlier watch events in the callback thread. */
    struct barrier barrier = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};
    OK(zoo_aexists(client->handle, "/", 0, open_barrier, &barrier));
    WAIT_FOR(&barrier, barrier.open, "exists on / was not answered");
    pthread_mutex_lock(&client->lock);
    if (client->event_next < client->event_count) {
        struct event *event = &client->events[client->event_next];
        FAIL("unexpected event %d on %s", event->type, event->path);
    }
    pthread_mutex_unlock(&client->lock);
}

static void open_barrier_after_sync(int code, const char *path, const void *context) {
    (void)path;
    open_barrier(code, NULL, context);
}

void catch_up(struct client *client) {
    struct barrier barrier = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};
    OK(zoo_async(client->handle, "/", open_barrier_after_sync, &barrier));
    WAIT_FOR(&barrier, barrier.open, "sync was not answered");
}

void wait_gone(struct client *client, const char *path) {
    struct timespec limit = wait_limit(), now;
    for (;;) {
        int code = zoo_exists(client->handle, path, 0, NULL);
        if (code == ZNONODE) return;
        SAME(code, ZOK);
        clock_gettime(CLOCK_REALTIME, &now);
        if (now.tv_sec > limit.tv_sec) FAIL("%s is still there", path);
        usleep(20000);
    }
}

void make(struct client *client, const char *path, const char *data) {
    int code = zoo_create(client->handle, path, data, data ? (int)strlen(data) : -1, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0);
    if (code != ZOK) FAIL("create %s: %s", path, zerror(code));
}

const char *text_of(struct client *client, const char *path) {
    static char buffer[4096];
    int length = sizeof buffer - 1;
    int code = zoo_get(client->handle, path, 0, buffer, &length, NULL);
    if (code != ZOK) FAIL("get %s: %s", path, zerror(code));
    buffer[length < 0 ? 0 : length] = 0;
    return buffer;
}

struct Stat stat_of(struct client *client, const char *path) {
    struct Stat stat;
    int code = zoo_exists(client->handle, path, 0, &stat);
    if (code != ZOK) FAIL("exists %s: %s", path, zerror(code));
    return stat;
}

const char *under(const char *base, const char *name) {
    static char buffers[16][256];
    static int next;
    char *buffer = buffers[next++ % 16];
    snprintf(buffer, sizeof buffers[0], "%s/%s", base, name);
    return buffer;
}

const char *fresh(struct client *client) {
    static char path[128];
    snprintf(path, sizeof path, "/c-%s", case_name);
    make(client, path, "");
    return path;
}

static void run(const struct test_case *test) {
    int ends[2];
    if (pipe(ends) != 0) exit(2);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        detail_fd = ends[1];
        case_name = test->name;
        alarm(CASE_LIMIT_S);
        test->run();
        _exit(0);
    }
    close(ends[1]);
    char detail[1200] = "";
    size_t length = 0;
    ssize_t part;
    while (length < sizeof detail - 1 && (part = read(ends[0], detail + length, sizeof detail - 1 - length)) > 0)
        length += (size_t)part;
    detail[length] = 0;
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) printf("ok %s\n", test->name);
    else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) printf("not ok %s: hung %d s\n", test->name, CASE_LIMIT_S);
    else if (WIFSIGNALED(status)) printf("not ok %s: killed by signal %d\n", test->name, WTERMSIG(status));
    else printf("not ok %s: %s\n", test->name, detail);
    fflush(stdout);
    /* Whatever the case did to the proxy ends with it. */
    detail_fd = STDERR_FILENO;
    control("accept");
}

int main(int count, char **names) {
    const struct test_case *all[] = {data_cases, watch_cases, session_cases};
    zoo_set_debug_level(ZOO_LOG_LEVEL_WARN);
    int planned = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t group = 0; group < sizeof all / sizeof *all; group++) {
            for (const struct test_case *test = all[group]; test->name; test++) {
                int wanted = count == 1;
                for (int i = 1; i < count; i++) wanted |= strcmp(names[i], test->name) == 0;
                if (!wanted) continue;
                if (pass == 0) planned++;
                else run(test);
            }
        }
        if (pass == 0) printf("1..%d\n", planned);
    }
    return 0;
}
