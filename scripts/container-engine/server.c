/* A small HTTP server for tests of containers: one thread, kept connections, no library but the system's.
 *
 *   GET  /          the variable GREETING and a line break        POST /       the body
 *   GET  /env       the environment                               GET  /self   user, capabilities, no_new_privs
 *   GET  /log       writes a line to each standard stream         GET  /flood  writes 1 MiB to standard output
 *   GET  /exit      ends with status 3                            GET  /eat    takes memory until it is killed
 *   GET  /write?P   writes a file at the path P, says what came   GET  /open?A connects to A (ADDRESS:PORT), says what came
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS = 256, REQUEST = 1 << 20 };
static struct pollfd polled[CONNECTIONS + 1];
static struct { char *bytes; size_t length; } held[CONNECTIONS + 1];
static char reply[1 << 16];
extern char **environ;

static void write_file(const char *path) {
    int file = open(path, O_WRONLY | O_CREAT, 0644);
    char zeros[4096] = {0};
    for (int i = 0; file >= 0 && i < 65536; i++) {
        if (write(file, zeros, sizeof zeros) < 0) break;
        errno = 0;
    }
    snprintf(reply, sizeof reply, "%s\n", errno ? strerror(errno) : "written");
}

static void open_connection(char *address) {
    char *port = strrchr(address, ':');
    struct sockaddr_in to = {.sin_family = AF_INET};
    if (port) *port++ = 0, to.sin_port = htons(atoi(port));
    inet_pton(AF_INET, address, &to.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct timeval patience = {.tv_sec = 1};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    int failed = connect(fd, (struct sockaddr *)&to, sizeof to);
    snprintf(reply, sizeof reply, "%s\n", failed ? strerror(errno) : "connected");
    close(fd);
}

static size_t answer(char *method, char *target, const char *body, size_t length) {
    char *query = strchr(target, '?');
    if (query) *query++ = 0;
    errno = 0;
    reply[0] = 0;
    if (!strcmp(method, "POST")) {
        if (length > sizeof reply) length = sizeof reply;
        memcpy(reply, body, length);
        return length;
    }
    if (!strcmp(target, "/env"))
        for (char **e = environ; *e; e++) strcat(strcat(reply, *e), "\n");
    else if (!strcmp(target, "/self")) {
        int file = open("/proc/self/status", O_RDONLY);
        ssize_t got = read(file, reply, sizeof reply - 1);
        reply[got < 0 ? 0 : got] = 0;
        close(file);
    } else if (!strcmp(target, "/log"))
        fprintf(stdout, "to standard output\n"), fprintf(stderr, "to standard error\n"), strcpy(reply, "logged\n");
    else if (!strcmp(target, "/flood")) {
        for (int i = 0; i < 1 << 14; i++) fprintf(stdout, "%063d\n", i);
        strcpy(reply, "flooded\n");
    } else if (!strcmp(target, "/exit")) {
        fprintf(stderr, "ending as asked\n");
        exit(3);
    } else if (!strcmp(target, "/eat"))
        for (char *more; (more = malloc(1 << 20));) memset(more, 1, 1 << 20);
    else if (!strcmp(target, "/write") && query)
        write_file(query);
    else if (!strcmp(target, "/open") && query)
        open_connection(query);
    else
        snprintf(reply, sizeof reply, "%s\n", getenv("GREETING") ? getenv("GREETING") : "hello");
    return strlen(reply);
}

/* Serves the whole requests that a connection holds. Returns whether it goes on. */
static int serve(int fd, int slot) {
    char *bytes = held[slot].bytes, *end;
    while ((end = strstr(bytes, "\r\n\r\n"))) {
        char *header = strcasestr(bytes, "\r\ncontent-length:"), method[16], target[4096], head[128];
        size_t head_length = end + 4 - bytes, length = header && header < end ? strtoul(header + 17, 0, 10) : 0;
        if (head_length + length > REQUEST) return 0;
        if (held[slot].length < head_length + length) return 1;
        if (sscanf(bytes, "%15s %4095s", method, target) != 2) return 0;
        size_t size = answer(method, target, bytes + head_length, length);
        int head_size = snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", size);
        if (send(fd, head, head_size, MSG_MORE) < 0 || send(fd, reply, size, 0) < 0) return 0;
        held[slot].length -= head_length + length;
        memmove(bytes, bytes + head_length + length, held[slot].length + 1);
    }
    return held[slot].length < REQUEST;
}

int main(void) {
    const char *port = getenv("PORT");
    int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1, count = 1;
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port ? atoi(port) : 8080)};
    setvbuf(stdout, 0, _IOLBF, 0);
    signal(SIGPIPE, SIG_IGN);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&any, sizeof any) || listen(listener, 128)) return perror("listen"), 1;
    polled[0] = (struct pollfd){.fd = listener, .events = POLLIN};
    printf("listening\n");
    for (;;) {
        if (poll(polled, count, -1) < 0) return 1;
        for (int i = count - 1; i > 0; i--) {
            if (!polled[i].revents) continue;
            ssize_t got = read(polled[i].fd, held[i].bytes + held[i].length, REQUEST - held[i].length);
            if (got > 0) {
                held[i].length += got;
                held[i].bytes[held[i].length] = 0;
                if (serve(polled[i].fd, i)) continue;
            }
            close(polled[i].fd);
            free(held[i].bytes);
            polled[i] = polled[--count];
            held[i] = held[count];
        }
        if ((polled[0].revents & POLLIN) && count <= CONNECTIONS) {
            int fd = accept(listener, 0, 0);
            if (fd < 0) continue;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
            polled[count] = (struct pollfd){.fd = fd, .events = POLLIN};
            held[count].bytes = calloc(1, REQUEST + 1);
            held[count++].length = 0;
        }
    }
}
