// Looks a name up as programs do: `lookup addresses NAME` or `lookup services NAME`.
#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static int addresses(const char *name) {
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found, *at;
    int error = getaddrinfo(name, NULL, &hints, &found);
    if (error) {
        printf("error: %s\n", gai_strerror(error));
        return 1;
    }
    for (at = found; at; at = at->ai_next) {
        char text[INET_ADDRSTRLEN];
        inet_ntop(AF_INET, &((struct sockaddr_in *)at->ai_addr)->sin_addr, text, sizeof text);
        puts(text);
    }
    freeaddrinfo(found);
    return 0;
}

static int services(const char *name) {
    unsigned char answer[4096];
    int length = res_query(name, ns_c_in, ns_t_srv, answer, sizeof answer);
    if (length < 12) {
        puts("error: no answer");
        return 1;
    }
    int questions = answer[4] << 8 | answer[5], answers = answer[6] << 8 | answer[7];
    unsigned char *at = answer + 12, *end = answer + length;
    for (; questions; questions--)
        at += dn_skipname(at, end) + 4;
    for (; answers; answers--) {
        char target[256];
        at += dn_skipname(at, end);
        int size = at[8] << 8 | at[9];
        if (dn_expand(answer, end, at + 10 + 6, target, sizeof target) > 0)
            printf("%d %s\n", at[14] << 8 | at[15], target);
        at += 10 + size;
    }
    return 0;
}

int main(int count, char **words) {
    if (count != 3)
        return 2;
    return strcmp(words[1], "services") ? addresses(words[2]) : services(words[2]);
}
