/* Answers every line in upper case: on TCP port $PORT, or with --once from standard input. */
#include <arpa/inet.h>
#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void shout(FILE *in, FILE *out) {
    char line[4096];
    while (fgets(line, sizeof line, in)) {
        for (char *c = line; *c; c++)
            *c = (char)toupper((unsigned char)*c);
        fputs(line, out);
        fflush(out);
    }
}

static void leave(int signal) {
    (void)signal;
    _exit(0);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--once") == 0) {
        shout(stdin, stdout);
        return 0;
    }
    signal(SIGINT, leave);
    signal(SIGPIPE, SIG_IGN);
    const char *port = getenv("PORT");
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port ? atoi(port) : 7000) };
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 16)) {
        perror("listen");
        return 1;
    }
    printf("listening on %d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client < 0)
            continue;
        FILE *in = fdopen(client, "r"), *out = fdopen(dup(client), "w");
        shout(in, out);
        fclose(in);
        fclose(out);
    }
}
