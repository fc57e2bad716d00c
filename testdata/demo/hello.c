#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>

int main(void) {
    struct utsname name;
    if (uname(&name) != 0) {
        perror("uname");
        return 1;
    }
    printf("%s: process %d of user %d on %s\n", GREETING, (int)getpid(), (int)getuid(), name.machine);
    return 0;
}
