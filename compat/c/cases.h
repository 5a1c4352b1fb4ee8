/* What every file of cases uses: checks, connections with their event log, the control port. */
#ifndef CASES_H
#define CASES_H

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zookeeper/zookeeper.h>

/* One case: runs in a process of its own, returns when it passed and calls `failed` when not. */
struct test_case {
    const char *name;
    void (*run)(void);
};

extern const struct test_case data_cases[], watch_cases[], session_cases[];

/* Ends this case's process as failed. */
void failed(const char *file, int line, const char *format, ...) __attribute__((noreturn, format(printf, 3, 4)));

#define FAIL(...) failed(__FILE__, __LINE__, __VA_ARGS__)
#define CHECK(condition) \
    do { \
        if (!(condition)) FAIL("%s", #condition); \
    } while (0)
/* Compares return codes and other numbers, and shows both. */
#define SAME(actual, expected) \
    do { \
        long long actual_ = (long long)(actual), expected_ = (long long)(expected); \
        if (actual_ != expected_) FAIL("%s is %lld, expected %lld", #actual, actual_, expected_); \
    } while (0)
#define SAME_TEXT(actual, expected) \
    do { \
        const char *actual_ = (actual), *expected_ = (expected); \
        if (strcmp(actual_, expected_) != 0) FAIL("%s is \"%s\", expected \"%s\"", #actual, actual_, expected_); \
    } while (0)
#define OK(call) SAME(call, ZOK)

#define MAX_EVENTS 512

/* A handle and everything its watchers were told, in order. Session events and watch events are kept apart. */
struct client {
    zhandle_t *handle;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int state;           /* the newest session state */
    int connects;        /* how often it became connected */
    int expired;         /* whether the session was reported expired */
    int event_count;
    int event_next;
    struct event {
        int type;
        char path[256];
    } events[MAX_EVENTS];
};

/* Where the server, and the proxy that can be cut, listen. */
const char *server_address(void);
const char *proxy_address(void);

/* Says a word to the control port and waits for its `ok`; see lib/control.py. */
void control(const char *word);

/* Opens a session and returns without waiting. `id` may be NULL. */
struct client *open_client(const char *hosts, int timeout_ms, const clientid_t *id);
/* Opens a session on the server and waits until it is connected. */
struct client *connected(void);
/* The same with an address, a timeout and a session to re-attach to. */
struct client *connected_to(const char *hosts, int timeout_ms, const clientid_t *id);
/* Closes the session. */
void close_client(struct client *client);

/* The watcher of every client: keeps the event. Its context is the client. */
void keep_event(zhandle_t *handle, int type, int state, const char *path, void *context);
/* Waits for the next watch event and checks that it is this one. */
void expect_event(struct client *client, int type, const char *path);
/* Checks that no further watch event has arrived; a round trip to the server first makes that certain. */
void expect_no_event(struct client *client);
/* Wait for a number of connects, or for the expiry. */
void wait_connects(struct client *client, int connects);
void wait_expired(struct client *client);
/* Waits until a node is gone, as seen through this client. */
/* Sees from now on what any client has been told: clients of an ensemble read from different servers. */
void catch_up(struct client *client);
void wait_gone(struct client *client, const char *path);

/* Creates a persistent node open to everybody. */
void make(struct client *client, const char *path, const char *data);
/* Data of a node as text; the caller owns nothing, the buffer is static. */
const char *text_of(struct client *client, const char *path);
/* The Stat of a node that must exist. */
struct Stat stat_of(struct client *client, const char *path);
/* Makes an empty node for this case and returns its path. */
const char *fresh(struct client *client);
/* `base` + "/" + `name`, in one of a few static buffers. */
const char *under(const char *base, const char *name);

#endif
