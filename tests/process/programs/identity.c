// identity [NAME...]: who and where the program believes to be: ids, working directory, arguments,
// umask, and the environment variables named.
#include <sys/stat.h>

#include "common.h"

int main(int argc, char** argv) {
    char directory[4096];
    REQUIRE(getcwd(directory, sizeof directory) != NULL);
    printf("uid %u euid %u gid %u egid %u\n", getuid(), geteuid(), getgid(), getegid());
    printf("cwd %s\numask %03o\nargc %d\n", directory, umask(0), argc);
    for (int i = 1; i < argc; ++i) {
        const char* value = getenv(argv[i]);
        printf("[%s] is %s\n", argv[i], value == NULL ? "not set" : value);
    }
    return 0;
}
