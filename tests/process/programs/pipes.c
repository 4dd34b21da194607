// A stream of checksummed records through three processes: source | filter | here, the last slow,
// so that the pipes stand full of bytes in flight whenever a checkpoint comes.
#include <sys/wait.h>

#include "common.h"

enum { kMaxRecord = 30000 };
struct Header {
    uint32_t number, size_bytes;
    uint64_t sum;
};

static void send_record(int fd, struct Header header, unsigned char* data) {
    header.sum = checksum(kSumStart, data, header.size_bytes);
    write_full(fd, &header, sizeof header);
    write_full(fd, data, header.size_bytes);
}

static int receive_record(int fd, struct Header* header, unsigned char* data) {
    const size_t got = read_full(fd, header, sizeof *header);
    if (got == 0) return 0;
    REQUIRE(got == sizeof *header && header->size_bytes <= kMaxRecord);
    REQUIRE(read_full(fd, data, header->size_bytes) == header->size_bytes);
    REQUIRE(checksum(kSumStart, data, header->size_bytes) == header->sum);
    return 1;
}

static void run_source(int out, uint32_t records) {
    static unsigned char data[kMaxRecord];
    uint64_t state = 7;
    for (uint32_t i = 0; i < records; ++i) {
        struct Header header = {i, (uint32_t)(next_random(&state) % kMaxRecord) + 1, 0};
        fill_random(data, header.size_bytes, &state);
        send_record(out, header, data);
    }
    _exit(11);
}

static void run_filter(int in, int out) {
    static unsigned char data[kMaxRecord];
    struct Header header;
    unsigned char carry = 0;
    while (receive_record(in, &header, data)) {
        for (uint32_t i = 0; i < header.size_bytes; ++i)
            carry = data[i] ^= (unsigned char)(carry + 1);
        send_record(out, header, data);
    }
    _exit(12);
}

int main(int argc, char** argv) {
    const uint32_t records = (uint32_t)rounds_asked(argc, argv, 40);
    int first[2], second[2];
    REQUIRE(pipe(first) == 0 && pipe(second) == 0);
    const pid_t source = fork();
    REQUIRE(source != -1);
    if (source == 0) run_source(first[1], records);
    const pid_t filter = fork();
    REQUIRE(filter != -1);
    if (filter == 0) {
        close(first[1]);
        run_filter(first[0], second[1]);
    }
    close(first[0]), close(first[1]), close(second[1]);

    static unsigned char data[kMaxRecord];
    struct Header header;
    uint32_t expected = 0;
    uint64_t sum = kSumStart;
    while (receive_record(second[0], &header, data)) {
        REQUIRE(header.number == expected++);
        sum = checksum(sum, data, header.size_bytes);
        say("record %u of %u bytes, stream %016llx", header.number, header.size_bytes,
            (unsigned long long)sum);
        pace_ms(25);
    }
    int source_status = 0, filter_status = 0;
    REQUIRE(waitpid(source, &source_status, 0) == source);
    REQUIRE(waitpid(filter, &filter_status, 0) == filter);
    say("end %u source %d filter %d", expected, WEXITSTATUS(source_status),
        WEXITSTATUS(filter_status));
    return 0;
}
