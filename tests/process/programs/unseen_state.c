// unseen_state SECONDS KIND: holds what an ordinary user's checkpoint would lack, uses it at the
// end. KIND: "memory-file" (mapped, not open), "semaphore" (System V), "shared-part" (the first
// page of shared memory is not mapped any more), "system-call-filter".
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sem.h>

#include "common.h"

enum { kPage = 4096, kSize = 4 * kPage };

static unsigned char* map_shared(int flags, int fd) {
    unsigned char* mapped = mmap(NULL, kSize, PROT_READ | PROT_WRITE, flags, fd, 0);
    REQUIRE(mapped != MAP_FAILED);
    return mapped;
}

static void filter_system_calls(void) {
    struct sock_filter allow = {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW};
    const struct sock_fprog program = {1, &allow};
    REQUIRE(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    REQUIRE(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

int main(int argc, char** argv) {
    REQUIRE(argc == 3);
    unsigned char* mapped = NULL;
    int semaphore = -1;
    if (strcmp(argv[2], "memory-file") == 0) {
        const int fd = memfd_create("test", 0);
        REQUIRE(fd != -1 && ftruncate(fd, kSize) == 0);
        mapped = map_shared(MAP_SHARED, fd);
        close(fd);
    } else if (strcmp(argv[2], "shared-part") == 0) {
        mapped = map_shared(MAP_SHARED | MAP_ANONYMOUS, -1);
        REQUIRE(munmap(mapped, kPage) == 0);
    } else if (strcmp(argv[2], "semaphore") == 0) {
        semaphore = semget(IPC_PRIVATE, 1, 0600);
        REQUIRE(semaphore != -1 && semctl(semaphore, 0, SETVAL, 7) == 0);
    } else {
        filter_system_calls();
    }
    if (mapped != NULL) mapped[2 * kPage] = 7;
    pace_ms((long)(seconds_asked(argc, argv, 1) * 1000));
    if (mapped != NULL) printf("memory %d\n", mapped[2 * kPage]);
    if (semaphore != -1) {
        printf("semaphore %d\n", semctl(semaphore, 0, GETVAL));
        semctl(semaphore, 0, IPC_RMID);
    }
    puts("done");
    return 0;
}
