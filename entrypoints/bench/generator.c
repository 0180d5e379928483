/* The load generator of `hubbub bench`: one process, one epoll loop, any number of WebSockets.
 *
 * It is written in C so that it costs little beside the server it measures. plan.py describes what it
 * is told and what it prints; python_generator.py does the same where there is no compiler.
 *
 * Every message carries a marker: '#', ten letters drawn for this run, ten digits with its number.
 * A marker coming back on any connection is one delivery. The number finds the time it was sent,
 * and proves that each member got each message once and in order. A run with a hole or a
 * repetition has failed: its speed means nothing.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TAG 11              /* '#' and the letters of this run */
#define MARKER (TAG + 10)   /* and the number of the message */
#define MOST_STEPS 8
#define MOST_PIDS 64
#define MOST_REPLIES 4
#define FRAME 65536         /* bytes of the longest frame that is sent */
#define INBOX (4 << 20)     /* bytes read at once; a frame must fit */
#define SECOND 1000000000ull
/* The handshake with this key has this answer: nobody is kept out by it, so it need not vary. */
#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

/* What is said on a connection, and what must be heard, before it is ready. */
struct step { bool say; const char *text; };
struct script { struct step steps[MOST_STEPS]; int count; };

enum state { CLOSED, DIALLING, UPGRADING, GREETING, READY };

struct client {
    int fd, index, step;
    enum state state;
    const struct script *script;
    uint64_t began;         /* when it was dialled */
    uint64_t next;          /* lowest number of a message that may still come */
    int64_t seq;            /* the room's number of the last message; 0: none known */
    char log[64];           /* the log of its position, once told */
    char *rest;             /* the beginning of a frame that is not complete */
    size_t rest_length;
};

struct message { uint64_t sent; uint32_t left; };
struct reply { const char *in, *out; };
struct phase { const char *name; uint64_t began; double server_cpu, own_cpu; long rss; };

static const char *host = "127.0.0.1", *port = "8000", *host_header = "127.0.0.1", *path = "/";
static const char *publish, *refusal, *authorization;
static int connections = 1, rooms = 1, publishers = 1, parallel = 64, missed;
static long most_messages;
static double seconds, rate, hold, patience = 10;
static long window = 1;
static int pids[MOST_PIDS], pid_count, reply_count;
static struct reply replies[MOST_REPLIES];
static struct script entering, returning;

static struct addrinfo *server;
static int epoll, dialled, ready;
static char tag[TAG + 1];
static struct client *clients;
static struct message *messages;
static uint64_t sent, room_for;
static uint64_t first_counted, complete, deliveries;    /* of the phase: not its stragglers */
static uint64_t last_news;                      /* when anything last went forward */
static uint64_t awaited_number, storm_began;    /* of the return after a loss */
static long returned;
static bool leaving, ordered;
static unsigned char inbox[INBOX];

/* --- what is printed ------------------------------------------------------------------------ */

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

__attribute__((format(printf, 1, 2), noreturn)) static void fail(const char *format, ...) {
    char text[2048];
    va_list values;
    va_start(values, format);
    vsnprintf(text, sizeof text, format, values);
    va_end(values);
    printf("{\"event\":\"failed\",\"reason\":\"");
    for (const unsigned char *p = (unsigned char *)text; *p; p++)
        if (*p == '"' || *p == '\\') printf("\\%c", *p);
        else if (*p < ' ') putchar(' ');
        else putchar(*p);
    printf("\"}\n");
    fflush(stdout);
    exit(1);
}

static void progress(const char *phase, double done, double of) {
    static uint64_t shown;
    if (now() - shown < SECOND / 10) return;
    shown = now();
    printf("{\"event\":\"progress\",\"phase\":\"%s\",\"done\":%.3f,\"of\":%.3f}\n", phase, done, of);
    fflush(stdout);
}

/* Latencies in buckets of microseconds, 64 to each power of two: exact to two percent. */
static uint64_t buckets[64 * 128], counted, longest;

static void latency(uint64_t nanoseconds) {
    uint64_t us = nanoseconds / 1000;
    int power = us < 128 ? 0 : 57 - __builtin_clzll(us);    /* us >> power is 64..127 */
    buckets[power * 128 + (us >> power)]++;
    counted++;
    if (nanoseconds > longest) longest = nanoseconds;
}

static double percentile(double share) {
    uint64_t below = 0, wanted = (uint64_t)(share * counted);
    for (int i = 0; i < 64 * 128; i++)
        if ((below += buckets[i]) > wanted) {
            double ms = (double)((uint64_t)(i % 128) << (i / 128)) / 1e3;
            return ms < longest / 1e6 ? ms : longest / 1e6;
        }
    return longest / 1e6;
}

/* --- costs: processor seconds and memory of the server, from /proc ---------------------------- */

static double cpu_of(int pid) {
    char name[64], text[2048];
    snprintf(name, sizeof name, "/proc/%d/stat", pid);
    FILE *file = fopen(name, "r");
    if (!file) fail("process %d, whose cost was to be measured, is not there", pid);
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    unsigned long user = 0, kernel = 0;
    char *after_name = strrchr(text, ')');
    if (after_name)
        sscanf(after_name + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &kernel);
    return (double)(user + kernel) / sysconf(_SC_CLK_TCK);
}

static long rss_of(int pid) {
    char name[64], line[256];
    long kib = 0;
    snprintf(name, sizeof name, "/proc/%d/status", pid);
    FILE *file = fopen(name, "r");
    if (!file) return 0;
    while (fgets(line, sizeof line, file)) sscanf(line, "VmRSS: %ld", &kib);
    fclose(file);
    return kib;
}

static double server_cpu(void) {
    double sum = 0;
    for (int i = 0; i < pid_count; i++) sum += cpu_of(pids[i]);
    return sum;
}

static long server_rss(void) {
    long sum = 0;
    for (int i = 0; i < pid_count; i++) sum += rss_of(pids[i]);
    return sum;
}

static double own_cpu(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec
        + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static struct phase begin(const char *name) {
    memset(buckets, 0, sizeof buckets);
    counted = longest = 0;
    long rss = server_rss();
    last_news = now();
    return (struct phase){name, last_news, server_cpu(), own_cpu(), rss};
}

/* `count` is what the costs are divided by: connections or deliveries. */
static void end(struct phase *p, uint64_t at, uint64_t count, uint64_t published) {
    printf("{\"event\":\"phase\",\"phase\":\"%s\",\"seconds\":%.6f,\"count\":%llu,\"messages\":%llu,",
        p->name, (at - p->began) / 1e9, (unsigned long long)count, (unsigned long long)published);
    if (counted)
        printf("\"latency_ms\":[%.3f,%.3f,%.3f,%.3f],", percentile(.5), percentile(.9),
            percentile(.99), longest / 1e6);
    if (pid_count)
        printf("\"server_cpu\":%.3f,\"rss_kib\":[%ld,%ld],", server_cpu() - p->server_cpu, p->rss,
            server_rss());
    printf("\"own_cpu\":%.6f}\n", own_cpu() - p->own_cpu);
    fflush(stdout);
}

/* --- sending ---------------------------------------------------------------------------------- */

/* Put the values into a text: %d connection, %r room, %m marker, %p position. */
static size_t fill(char *out, const char *text, const struct client *c, const char *marker) {
    size_t n = 0;
    for (; *text && n < FRAME - 256; text++) {
        char code = *text == '%' ? text[1] : 0;
        if (code == 'd') n += sprintf(out + n, "%d", c->index);
        else if (code == 'r') n += sprintf(out + n, "%d", c->index % rooms);
        else if (code == 'm') n += sprintf(out + n, "%s", marker);
        else if (code == 'p') n += sprintf(out + n, "{\"log\":\"%s\",\"seq\":%lld}", c->log, (long long)c->seq);
        else { out[n++] = *text; continue; }
        text++;
    }
    out[n] = 0;
    return n;
}

static void write_all(struct client *c, const char *bytes, size_t n) {
    while (n) {
        ssize_t written = send(c->fd, bytes, n, MSG_NOSIGNAL);
        if (written >= 0) { bytes += written; n -= written; continue; }
        if (errno != EAGAIN) {
            if (leaving) return;
            fail("connection %d broke while sending: %s", c->index, strerror(errno));
        }
        struct pollfd wait = {.fd = c->fd, .events = POLLOUT};
        if (poll(&wait, 1, (int)(patience * 1000)) == 0)
            fail("the server reads nothing from connection %d", c->index);
    }
}

static void send_frame(struct client *c, int opcode, const void *payload, size_t n) {
    static char frame[FRAME + 16];
    static uint32_t mask = 0x9e3779b9;
    size_t at = 0;
    frame[at++] = (char)(0x80 | opcode);
    if (n < 126) frame[at++] = (char)(0x80 | n);
    else { frame[at++] = (char)(0x80 | 126); frame[at++] = (char)(n >> 8); frame[at++] = (char)n; }
    mask ^= mask << 13; mask ^= mask >> 17; mask ^= mask << 5;
    memcpy(frame + at, &mask, 4);
    const char *key = frame + at;
    at += 4;
    for (size_t i = 0; i < n; i++) frame[at + i] = ((const char *)payload)[i] ^ key[i & 3];
    write_all(c, frame, at + n);
}

static void send_text(struct client *c, const char *text, const char *marker) {
    static char filled[FRAME];
    send_frame(c, 1, filled, fill(filled, text, c, marker));
}

static void send_message(struct client *c, uint64_t when, uint32_t expected) {
    char marker[MARKER + 1];
    if (sent == room_for) {
        room_for = room_for ? room_for * 2 : 1 << 16;
        messages = realloc(messages, room_for * sizeof *messages);
        if (!messages) fail("out of memory after %llu messages", (unsigned long long)sent);
    }
    messages[sent] = (struct message){when, expected};
    snprintf(marker, sizeof marker, "%s%010llu", tag, (unsigned long long)sent++);
    send_text(c, publish, marker);
}

/* --- receiving -------------------------------------------------------------------------------- */

static void become_ready(struct client *c) {
    c->state = READY;
    ready++;
    last_news = now();
    if (c->script == &entering) latency(last_news - c->began);
}

/* Say what is to be said until something must be heard. */
static void go_on(struct client *c) {
    while (c->step < c->script->count && c->script->steps[c->step].say)
        send_text(c, c->script->steps[c->step++].text, "");
    if (c->step == c->script->count) become_ready(c);
}

/* A `position` in a frame is where a member stands after the messages in it. */
static void take_position(struct client *c, const char *text, size_t n) {
    const char *p = memmem(text, n, "\"position\":{\"log\":\"", 19);
    char copy[128] = {0};
    if (!p) return;
    size_t left = text + n - p - 19;
    memcpy(copy, p + 19, left < sizeof copy - 1 ? left : sizeof copy - 1);
    long long seq = 0;
    if (sscanf(copy, "%63[^\"]\",\"seq\":%lld", c->log, &seq) == 2) c->seq = seq;
}

static void greeting(struct client *c, const char *text, size_t n) {
    static char wanted[FRAME];
    size_t length = fill(wanted, c->script->steps[c->step].text, c, "");
    if (!memmem(text, n, wanted, length)) return;
    c->step++;
    take_position(c, text, n);
    go_on(c);
}

static void check_seq(struct client *c, const char *text, size_t n) {
    const char *p = memmem(text, n, "\"seq\":", 6);
    if (!p) return;
    int64_t seq = 0;
    for (p += 6; p < text + n && *p >= '0' && *p <= '9'; p++) seq = seq * 10 + (*p - '0');
    if (c->seq && seq != c->seq + 1)
        fail("connection %d got seq %lld after %lld", c->index, (long long)seq, (long long)c->seq);
    c->seq = seq;
    p = memmem(text, n, "\"log\":\"", 7);
    if (p) sscanf(p + 7, "%63[^\"]", c->log);
}

static void delivered(struct client *c, uint64_t number, uint64_t at) {
    if (number >= sent) fail("connection %d got message %llu, which nobody sent", c->index,
        (unsigned long long)number);
    if (ordered && number < c->next)
        fail("connection %d got message %llu twice or too late", c->index, (unsigned long long)number);
    c->next = number + 1;
    struct message *m = &messages[number];
    if (!m->left--) fail("message %llu came more often than there are members", (unsigned long long)number);
    last_news = at;
    if (number < first_counted) return;
    if (!m->left) complete++;
    deliveries++;
    if (!storm_began) latency(at > m->sent ? at - m->sent : 0);
    else if (c->next == awaited_number) { returned++; latency(at - storm_began); }
}

/* Returns how many messages were in the frame; some servers put several into one. */
static int take_messages(struct client *c, const char *text, size_t n) {
    const char *end = text + n, *p = text;
    uint64_t at = 0;
    int found = 0;
    while (end - p >= MARKER && (p = memmem(p, end - p, tag, TAG)) && end - p >= MARKER) {
        uint64_t number = 0;
        for (int i = TAG; i < MARKER; i++) number = number * 10 + (p[i] - '0');
        if (!at) at = now();
        delivered(c, number, at);
        p += MARKER;
        found++;
    }
    return found;
}

static void text_frame(struct client *c, const char *text, size_t n) {
    int found = take_messages(c, text, n);
    /* In a frame with several each may have its seq: their order is proved by their numbers. */
    if (found == 1 && c->state == READY) check_seq(c, text, n);
    if (c->state == GREETING) greeting(c, text, n);
    if (found) return;
    if (refusal && memmem(text, n, refusal, strlen(refusal)))
        fail("the server answered %.*s", (int)(n < 400 ? n : 400), text);
    for (int i = 0; i < reply_count; i++)
        if (n == strlen(replies[i].in) && !memcmp(text, replies[i].in, n))
            send_text(c, replies[i].out, "");
}

static void lost(struct client *c, int code, const char *reason, int length) {
    if (c->state == READY) ready--;
    if (c->state != CLOSED) { close(c->fd); dialled--; }
    c->state = CLOSED;
    if (leaving) return;
    if (code) fail("the server closed connection %d: %d %.*s", c->index, code, length, reason);
    fail("the server dropped connection %d", c->index);
}

static void control_frame(struct client *c, int opcode, unsigned char *payload, size_t n) {
    if (opcode == 9) send_frame(c, 10, payload, n);
    if (opcode == 8) {
        int code = n >= 2 ? payload[0] << 8 | payload[1] : 1005;
        lost(c, code, (char *)payload + 2, n > 2 ? (int)n - 2 : 0);
    }
}

/* Returns the bytes of the complete frames at the beginning of `b`. */
static size_t take_frames(struct client *c, unsigned char *b, size_t n) {
    size_t at = 0;
    while (c->state >= GREETING && n - at >= 2) {
        unsigned char *f = b + at;
        uint64_t size = f[1] & 127;
        size_t head = size == 127 ? 10 : size == 126 ? 4 : 2;
        if (n - at < head) break;
        if (head > 2) {
            size = 0;
            for (size_t i = 2; i < head; i++) size = size << 8 | f[i];
        }
        if (size > INBOX / 2) fail("the server sent a frame of %llu bytes", (unsigned long long)size);
        if (n - at < head + size) break;
        if (f[0] & 8) control_frame(c, f[0] & 15, f + head, size);
        else text_frame(c, (char *)f + head, size);
        at += head + size;
    }
    return at;
}

/* Returns the bytes of the answer to the upgrade, 0 while it is not complete. */
static size_t take_upgrade(struct client *c, char *b, size_t n) {
    char *end_of_head = memmem(b, n, "\r\n\r\n", 4);
    if (!end_of_head) return 0;
    size_t head = end_of_head + 4 - b;
    if (n < 12 || memcmp(b, "HTTP/1.1 101", 12) || !memmem(b, head, ACCEPT, sizeof ACCEPT - 1)) {
        int line = (int)((char *)memchr(b, '\r', n) - b), body = n - head < 300 ? (int)(n - head) : 300;
        fail("the server refused the upgrade of %s: %.*s %.*s", path, line, b, body, b + head);
    }
    c->state = GREETING;
    go_on(c);
    return head;
}

static void keep(struct client *c, const unsigned char *bytes, size_t n) {
    if (n) {
        c->rest = realloc(c->rest, n);
        if (!c->rest) fail("out of memory");
        memcpy(c->rest, bytes, n);
    } else if (c->rest) {
        free(c->rest);
        c->rest = NULL;
    }
    c->rest_length = n;
}

static void readable(struct client *c) {
    size_t n = c->rest_length, used = 0;
    if (n) memcpy(inbox, c->rest, n);
    ssize_t got = read(c->fd, inbox + n, INBOX - n);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) { lost(c, 0, "", 0); return; }
    n += got;
    if (c->state == UPGRADING) used = take_upgrade(c, (char *)inbox, n);
    used += take_frames(c, inbox + used, n - used);
    keep(c, inbox + used, c->state == CLOSED ? 0 : n - used);
}

/* --- connecting ------------------------------------------------------------------------------- */

static void watch(struct client *c, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.u32 = c->index};
    if (epoll_ctl(epoll, operation, c->fd, &event)) fail("epoll_ctl: %s", strerror(errno));
}

/* One local address has 28,000 ports to one server; loopback has other addresses. */
static void bind_source(int fd, int index) {
    struct sockaddr_in *to = (struct sockaddr_in *)server->ai_addr, from = {.sin_family = AF_INET};
    if (server->ai_family != AF_INET || ntohl(to->sin_addr.s_addr) >> 24 != 127) return;
    from.sin_addr.s_addr = htonl(0x7f000001 + index / 20000);
    int one = 1;
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&from, sizeof from)) fail("bind: %s", strerror(errno));
}

static void dial(struct client *c, const struct script *script) {
    c->fd = socket(server->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) fail("no socket for connection %d: %s", c->index, strerror(errno));
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    bind_source(c->fd, c->index);
    c->state = DIALLING;
    c->script = script;
    c->step = 0;
    c->began = now();
    dialled++;
    if (connect(c->fd, server->ai_addr, server->ai_addrlen) && errno != EINPROGRESS)
        fail("cannot connect to %s port %s: %s", host, port, strerror(errno));
    watch(c, EPOLL_CTL_ADD, EPOLLOUT);
}

static void connected(struct client *c) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) fail("cannot connect to %s port %s: %s", host, port, strerror(error));
    static char place[FRAME], request[FRAME + 1024];
    fill(place, path, c, "");
    int n = snprintf(request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: " KEY "\r\nSec-WebSocket-Version: 13\r\n%s%s%s\r\n", place, host_header,
        authorization ? "Authorization: " : "", authorization ? authorization : "",
        authorization ? "\r\n" : "");
    c->state = UPGRADING;
    watch(c, EPOLL_CTL_MOD, EPOLLIN);
    write_all(c, request, n);
}

static void turn(int wait_ms) {
    static struct epoll_event events[1024];
    int n = epoll_wait(epoll, events, 1024, wait_ms);
    for (int i = 0; i < n; i++) {
        struct client *c = &clients[events[i].data.u32];
        if (c->state == DIALLING) connected(c);
        else if (c->state != CLOSED) readable(c);
    }
}

static bool stalled(void) { return now() - last_news > patience * SECOND; }

static void connect_all(const struct script *script, int at_once) {
    for (int next = 0; ready < connections;) {
        while (next < connections && dialled - ready < at_once) {
            if (clients[next].state == CLOSED) dial(&clients[next], script);
            next++;
        }
        turn(20);
        progress(script == &entering ? "connect" : "return", ready, connections);
        if (stalled())
            fail("%d of %d connections are ready, and nothing came for %g s", ready, connections, patience);
    }
}

/* --- phases ----------------------------------------------------------------------------------- */

static uint32_t members_of(int room) {
    return (connections - room + rooms - 1) / rooms;
}

/* Publish in every room until a message has reached all members. Some doors do not say when a
 * member is in; from here on everybody counts. */
static void prove(void) {
    uint64_t *probes = calloc(rooms, sizeof *probes), asked = 0;
    bool *proved = calloc(rooms, sizeof *proved);
    if (!probes || !proved) fail("out of memory");
    last_news = now();
    for (int open = rooms; open;) {
        bool again = now() - asked > SECOND / 2;
        if (again) asked = now();
        open = 0;
        for (int room = 0; room < rooms; room++) {
            if (probes[room] && !messages[probes[room] - 1].left) proved[room] = true;
            if (proved[room]) continue;
            open++;
            if (again) { send_message(&clients[room], asked, members_of(room)); probes[room] = sent; }
        }
        turn(open ? 10 : 0);
        progress("prove", rooms - open, rooms);
        if (stalled()) fail("%d of %d rooms do not deliver to all their members", open, rooms);
    }
    free(probes);
    free(proved);
}

static void publish_all(const char *name, double most_seconds, uint64_t most, uint64_t most_in_flight,
                        bool to_all) {
    uint64_t first = sent, expected = 0;
    struct phase p = begin(name);
    first_counted = first;
    complete = deliveries = 0;
    double due = 0, until = most_seconds > 0 ? p.began + most_seconds * SECOND : 1e300;
    for (bool more = true; more || complete < sent - first;) {
        uint64_t at = now();
        while ((more = sent - first < most && at < until)
               && (rate > 0 ? p.began + due <= at : sent - first - complete < most_in_flight)) {
            struct client *c = &clients[(sent - first) % publishers];
            uint32_t each = to_all ? members_of(c->index % rooms) : 1;
            expected += each;
            /* At a fixed rate the time it should have been sent counts: a stall must show. */
            send_message(c, rate > 0 ? p.began + (uint64_t)due : at, each);
            if (rate > 0) due += SECOND / rate;
            at = now();
        }
        double next_ms = rate > 0 && more ? (p.began + due - at) / 1e6 : 50;
        turn(next_ms < 0 ? 0 : next_ms < 50 ? (int)next_ms : 50);
        if (most_seconds > 0) progress(name, (now() - p.began) / 1e9, most_seconds);
        else progress(name, complete, most);
        if (stalled() && complete < sent - first)
            fail("%llu of %llu deliveries did not come within %g s",
                (unsigned long long)(expected - deliveries), (unsigned long long)expected, patience);
    }
    end(&p, last_news > p.began ? last_news : now(), deliveries, sent - first);
}

static void stay(void) {
    struct phase p = begin("hold");
    for (uint64_t until = now() + hold * SECOND; now() < until;) {
        turn(50);
        progress("hold", (now() - p.began) / 1e9, hold);
    }
    end(&p, now(), connections, 0);
}

/* All members but the publisher are cut off, miss some messages, come back at once with their
 * positions, and must get exactly what they missed. */
static void come_back(void) {
    for (int i = publishers; i < connections; i++) {
        struct client *c = &clients[i];
        if (!c->log[0]) fail("connection %d was not told its position", i);
        struct linger abrupt = {.l_onoff = 1, .l_linger = 0};
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &abrupt, sizeof abrupt);
        leaving = true;
        lost(c, 0, "", 0);
        leaving = false;
        keep(c, NULL, 0);
    }
    publish_all("away", 0, missed, 1, false);
    int away = connections - publishers;
    for (uint64_t i = first_counted; i < sent; i++) messages[i].left += away;
    deliveries = 0;
    struct phase p = begin("return");
    awaited_number = sent;
    storm_began = p.began;
    connect_all(&returning, parallel);
    while (returned < away) {
        turn(20);
        if (stalled()) fail("%ld of %d came back with all they missed", returned, away);
    }
    if (deliveries != (uint64_t)missed * away)
        fail("%llu of %llu missed messages came", (unsigned long long)deliveries,
            (unsigned long long)missed * away);
    end(&p, last_news, away, deliveries);
}

static void say_goodbye(void) {
    leaving = true;
    for (int i = 0; i < connections; i++)
        if (clients[i].state == READY) send_frame(&clients[i], 8, "\x03\xe8", 2);
    for (uint64_t until = now() + 2 * SECOND; dialled && now() < until;) turn(20);
}

/* --- start ------------------------------------------------------------------------------------ */

static void add_step(struct script *script, bool say, const char *text) {
    if (script->count == MOST_STEPS) fail("too many steps");
    script->steps[script->count++] = (struct step){say, text};
}

static void read_options(int count, char **words) {
    struct script *script = &entering;
    for (int i = 1; i < count; i++) {
        const char *name = words[i];
        if (!strcmp(name, "--again")) { script = &returning; continue; }
        if (i + 1 == count) fail("%s needs a value", name);
        const char *value = words[++i];
        if (!strcmp(name, "--host")) host = value;
        else if (!strcmp(name, "--port")) port = value;
        else if (!strcmp(name, "--host-header")) host_header = value;
        else if (!strcmp(name, "--path")) path = value;
        else if (!strcmp(name, "--connections")) connections = atoi(value);
        else if (!strcmp(name, "--rooms")) rooms = atoi(value);
        else if (!strcmp(name, "--publishers")) publishers = atoi(value);
        else if (!strcmp(name, "--parallel")) parallel = atoi(value);
        else if (!strcmp(name, "--say")) add_step(script, true, value);
        else if (!strcmp(name, "--await")) add_step(script, false, value);
        else if (!strcmp(name, "--publish")) publish = value;
        else if (!strcmp(name, "--messages")) most_messages = atol(value);
        else if (!strcmp(name, "--seconds")) seconds = atof(value);
        else if (!strcmp(name, "--window")) window = atol(value);
        else if (!strcmp(name, "--rate")) rate = atof(value);
        else if (!strcmp(name, "--missed")) missed = atoi(value);
        else if (!strcmp(name, "--hold")) hold = atof(value);
        else if (!strcmp(name, "--refusal")) refusal = value;
        else if (!strcmp(name, "--patience")) patience = atof(value);
        else if (!strcmp(name, "--pid") && pid_count < MOST_PIDS) pids[pid_count++] = atoi(value);
        else if (!strcmp(name, "--reply") && i + 1 < count && reply_count < MOST_REPLIES)
            replies[reply_count++] = (struct reply){value, words[++i]};
        else fail("%s is no option", name);
    }
    /* Not an option: everybody on the machine can read those. */
    authorization = getenv("BENCH_AUTHORIZATION");
}

static void prepare(void) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    int error = getaddrinfo(host, port, &hints, &server);
    if (error) fail("%s: %s", host, gai_strerror(error));
    uint64_t seed = now() ^ ((uint64_t)getpid() << 40);
    tag[0] = '#';
    for (int i = 1; i < TAG; i++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        tag[i] = (char)('a' + (seed >> 40) % 26);
    }
    epoll = epoll_create1(EPOLL_CLOEXEC);
    clients = calloc(connections, sizeof *clients);
    if (epoll < 0 || !clients) fail("out of memory");
    for (int i = 0; i < connections; i++) clients[i].index = i;
    ordered = publishers <= rooms;
}

int main(int count, char **words) {
    read_options(count, words);
    prepare();
    struct phase p = begin("connect");
    connect_all(&entering, parallel);
    end(&p, last_news, connections, 0);
    if (publish) prove();
    if (most_messages || seconds > 0)
        publish_all("measure", seconds, most_messages ? (uint64_t)most_messages : UINT64_MAX, window, true);
    if (hold > 0) stay();
    if (missed) come_back();
    say_goodbye();
    printf("{\"event\":\"end\"}\n");
    return 0;
}
