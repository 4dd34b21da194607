// A file open under a name that is gone while another name of it remains: what is written through
// the descriptor must go on arriving under the name that is left.
#include <fcntl.h>
#include <sys/stat.h>

#include "common.h"

int main(int argc, char** argv) {
    const int rounds = rounds_asked(argc, argv, 40);
    int fd = open("kept.txt", O_RDWR | O_CREAT | O_TRUNC, 0644);
    REQUIRE(fd != -1);
    REQUIRE(link("kept.txt", "alias.txt") == 0);
    close(fd);
    fd = open("alias.txt", O_RDWR | O_APPEND);
    REQUIRE(fd != -1);
    REQUIRE(unlink("alias.txt") == 0);
    for (int round = 0; round < rounds; ++round) {
        REQUIRE(dprintf(fd, "line %d\n", round) > 0);
        struct stat by_fd, by_name;
        REQUIRE(fstat(fd, &by_fd) == 0 && stat("kept.txt", &by_name) == 0);
        say("round %d size %ld and %ld, same file %d", round, (long)by_fd.st_size,
            (long)by_name.st_size, by_fd.st_ino == by_name.st_ino);
        pace_ms(25);
    }
    return 0;
}
