// Unix sockets inside the tree: a stream over a bound path, datagrams between two bound paths, and
// a socket pair that always holds a message under way from the round before.
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "common.h"

enum { kMaxMessage = 8000 };

static struct sockaddr_un address_of(const char* name) {
    struct sockaddr_un address;
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    strncpy(address.sun_path, name, sizeof address.sun_path - 1);
    return address;
}

static int bound_socket(int type, const char* name) {
    const struct sockaddr_un address = address_of(name);
    const int fd = socket(AF_UNIX, type, 0);
    REQUIRE(fd != -1);
    REQUIRE(bind(fd, (const struct sockaddr*)&address, sizeof address) == 0);
    return fd;
}

static void connect_to(int fd, const char* name) {
    const struct sockaddr_un address = address_of(name);
    REQUIRE(connect(fd, (const struct sockaddr*)&address, sizeof address) == 0);
}

static ssize_t receive_datagram(int fd, void* data) {
    ssize_t got;
    do {
        got = recv(fd, data, kMaxMessage, 0);
    } while (got == -1 && errno == EINTR);
    REQUIRE(got >= 0);
    return got;
}

// The child: adds its own count to every byte and sends it back. Ends with the stream.
static void echo(int stream, int datagram, int pair) {
    static unsigned char data[kMaxMessage];
    uint32_t size;
    unsigned char count = 0;
    while (read_full(stream, &size, sizeof size) == sizeof size) {
        ++count;
        REQUIRE(read_full(stream, data, size) == size);
        for (uint32_t i = 0; i < size; ++i) data[i] = (unsigned char)(data[i] + count);
        write_full(stream, data, size);
        const ssize_t got = receive_datagram(datagram, data);
        data[0] = (unsigned char)(data[0] + count);
        REQUIRE(send(datagram, data, (size_t)got, 0) == got);
        write_full(pair, &count, 1);
    }
    _exit(count);
}

int main(int argc, char** argv) {
    const int rounds = rounds_asked(argc, argv, 40);
    const int listener = bound_socket(SOCK_STREAM, "stream.sock");
    REQUIRE(listen(listener, 1) == 0);
    const int datagram = bound_socket(SOCK_DGRAM, "left.sock");
    const int other = bound_socket(SOCK_DGRAM, "right.sock");
    connect_to(datagram, "right.sock");
    connect_to(other, "left.sock");
    int pair[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    const pid_t child = fork();
    REQUIRE(child != -1);
    if (child == 0) {
        const int stream = socket(AF_UNIX, SOCK_STREAM, 0);
        connect_to(stream, "stream.sock");
        close(listener), close(datagram), close(pair[0]);
        echo(stream, other, pair[1]);
    }
    close(other), close(pair[1]);
    const int stream = accept(listener, NULL, NULL);
    REQUIRE(stream != -1);

    static unsigned char data[kMaxMessage];
    uint64_t state = 3, sum = kSumStart;
    for (int round = 0; round < rounds; ++round) {
        const uint32_t size = (uint32_t)(next_random(&state) % kMaxMessage) + 1;
        fill_random(data, size, &state);
        write_full(stream, &size, sizeof size);
        write_full(stream, data, size);
        REQUIRE(send(datagram, data, size, 0) == (ssize_t)size);
        REQUIRE(read_full(stream, data, size) == size);
        sum = checksum(sum, data, size);
        REQUIRE(receive_datagram(datagram, data) == (ssize_t)size);
        sum = checksum(sum, data, size);
        unsigned char count = 0;
        if (round > 0) REQUIRE(read_full(pair[0], &count, 1) == 1);
        say("round %d sum %016llx from before %d", round, (unsigned long long)sum, count);
        pace_ms(25);
    }
    shutdown(stream, SHUT_WR);
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    say("child counted %d", WEXITSTATUS(status));
    unlink("stream.sock"), unlink("left.sock"), unlink("right.sock");
    return 0;
}
