// warm_memory MIB: touches MIB of fresh memory and ends. The host of a virtual machine may take
// back what its guest has left free for a few seconds; the next to use such pages waits for the
// host, about 5 s a GiB on some. Run before each measurement, so that programs are compared, not
// luck.
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { kPageBytes = 4096 };

int main(int argc, char** argv) {
    const size_t bytes = argc == 2 ? strtoull(argv[1], NULL, 10) << 20 : 0;
    if (bytes == 0) {
        fprintf(stderr, "usage: warm_memory MIB\n");
        return 2;
    }
    volatile char* memory =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        perror("warm_memory: mmap");
        return 1;
    }
    for (size_t at = 0; at < bytes; at += kPageBytes) memory[at] = 1;
    return 0;
}
