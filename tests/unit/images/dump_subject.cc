// The process tree that images_test dumps: one of each thing that the image reader tells apart, at
// places that it writes down. Built without sanitizers, whose terabytes of shadow nobody can dump.
//
//   dump_subject DIRECTORY
//
// Writes DIRECTORY/facts ("name value" lines) when all is set up, then waits for SIGUSR1, changes
// a known set of things, writes DIRECTORY/changed and sleeps until it is killed.
#include <fcntl.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kAnonymousPages = 64;
constexpr std::size_t kTouchedPages = 32;

std::string directory;
std::string facts;

void require(bool condition, const char* what) {
    if (condition) return;
    std::perror(what);
    std::_Exit(1);
}

void note(const char* name, std::uint64_t value) {
    facts += std::string(name) + " " + std::to_string(value) + "\n";
}

void note_address(const char* name, const void* address) {
    note(name, reinterpret_cast<std::uintptr_t>(address));
}

// Whoever polls for the file must never see half of it.
void publish(const char* name, const std::string& text) {
    const std::string path = directory + "/" + name;
    const std::string pending = path + ".pending";
    const int fd = ::open(pending.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    require(fd >= 0, "create facts");
    require(::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()), "write");
    ::close(fd);
    require(::rename(pending.c_str(), path.c_str()) == 0, "rename");
}

void* sleep_as_thread(void*) {
    ::prctl(PR_SET_NAME, "subject-thread");
    for (;;) ::pause();
}

[[noreturn]] void sleep_as_child(const char* name) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::prctl(PR_SET_NAME, name);
    for (;;) ::pause();
}

char* map_anonymous(std::size_t pages, int flags) {
    void* memory =
        ::mmap(nullptr, pages * kPage, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
    require(memory != MAP_FAILED, "mmap");
    return static_cast<char*>(memory);
}

char* make_private_memory() {
    // Unreadable neighbours keep the kernel from merging it with another mapping.
    char* guarded = map_anonymous(kAnonymousPages + 2, MAP_PRIVATE);
    require(::mprotect(guarded, kPage, PROT_NONE) == 0, "mprotect");
    char* memory = guarded + kPage;
    require(::mprotect(memory + kAnonymousPages * kPage, kPage, PROT_NONE) == 0, "mprotect");
    for (std::size_t page = 0; page < kTouchedPages; ++page) {
        std::memset(memory + page * kPage, static_cast<int>('A' + page), kPage);
    }
    // Built from halves, so that the binary's own constants do not hold the whole pattern.
    const std::string pattern = std::string("ppdsm-crosses-") + "a-page-boundary";
    char* place = memory + 11 * kPage - 14;
    std::memcpy(place, pattern.data(), pattern.size());
    note_address("private", memory);
    note_address("pattern", place);
    return memory;
}

void make_files(char** file_private) {
    const std::string regular = directory + "/regular";
    const int fd = ::open(regular.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    require(fd >= 0, "regular");
    require(::ftruncate(fd, 4 * kPage) == 0, "ftruncate");
    require(::lseek(fd, 1234, SEEK_SET) == 1234, "lseek");
    note("regular_fd", static_cast<std::uint64_t>(fd));
    void* mapped = ::mmap(nullptr, 4 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    require(mapped != MAP_FAILED, "mmap private file");
    *file_private = static_cast<char*>(mapped);
    std::memset(*file_private + 2 * kPage, 'p', kPage);
    note_address("file_private", mapped);
    mapped = ::mmap(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, kPage);
    require(mapped != MAP_FAILED, "mmap shared file");
    note_address("file_shared", mapped);

    const std::string deleted = directory + "/deleted";
    const int gone = ::open(deleted.c_str(), O_RDWR | O_CREAT, 0600);
    require(gone >= 0 && ::write(gone, "ghostly content", 15) == 15, "deleted");
    require(::lseek(gone, 7, SEEK_SET) == 7 && ::unlink(deleted.c_str()) == 0, "unlink");
    note("deleted_fd", static_cast<std::uint64_t>(gone));

    const int memfd = ::memfd_create("subject-memfd", 0);
    require(memfd >= 0 && ::ftruncate(memfd, 3 * kPage) == 0, "memfd");
    void* shared = ::mmap(nullptr, 2 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, kPage);
    require(shared != MAP_FAILED, "mmap memfd");
    std::memset(shared, 'm', 2 * kPage);
    note("memfd_fd", static_cast<std::uint64_t>(memfd));
    note_address("memfd_mapping", shared);
}

int make_kernel_objects() {
    const int event = ::eventfd(7, EFD_NONBLOCK);
    require(event >= 0, "eventfd");
    note("eventfd_fd", static_cast<std::uint64_t>(event));

    const int poll = ::epoll_create1(EPOLL_CLOEXEC);
    epoll_event watch{};
    watch.events = EPOLLIN;
    require(poll >= 0 && ::epoll_ctl(poll, EPOLL_CTL_ADD, event, &watch) == 0, "epoll");
    note("epoll_fd", static_cast<std::uint64_t>(poll));

    const int timer = ::timerfd_create(CLOCK_MONOTONIC, 0);
    const itimerspec hours{{7200, 0}, {36000, 0}};
    require(timer >= 0 && ::timerfd_settime(timer, 0, &hours, nullptr) == 0, "timerfd");
    note("timerfd_fd", static_cast<std::uint64_t>(timer));

    sigset_t signals;
    ::sigemptyset(&signals);
    ::sigaddset(&signals, SIGUSR2);
    ::sigaddset(&signals, SIGHUP);
    const int signal = ::signalfd(-1, &signals, 0);
    require(signal >= 0, "signalfd");
    note("signalfd_fd", static_cast<std::uint64_t>(signal));
    return timer;
}

// A reader and a writer of one pipe and one socket pair, in two processes; a stopped and a dead
// one.
void make_children() {
    int ends[2];
    require(::pipe(ends) == 0, "pipe");
    int sockets[2];
    require(::socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0, "socketpair");
    require(::write(ends[1], "in the pipe", 11) == 11, "write pipe");
    const pid_t reader = ::fork();
    require(reader >= 0, "fork");
    if (reader == 0) {
        ::close(ends[1]);
        ::close(sockets[0]);
        sleep_as_child("subject-reader");
    }
    ::close(ends[0]);
    ::close(sockets[1]);
    note("reader_pid", static_cast<std::uint64_t>(reader));
    note("pipe_read_fd", static_cast<std::uint64_t>(ends[0]));
    note("pipe_write_fd", static_cast<std::uint64_t>(ends[1]));
    note("socket_fd", static_cast<std::uint64_t>(sockets[0]));
    note("peer_socket_fd", static_cast<std::uint64_t>(sockets[1]));

    const pid_t stopped = ::fork();
    require(stopped >= 0, "fork");
    if (stopped == 0) sleep_as_child("subject-stopped");
    require(::kill(stopped, SIGSTOP) == 0, "stop");
    require(::waitpid(stopped, nullptr, WUNTRACED) == stopped, "wait for the stop");
    note("stopped_pid", static_cast<std::uint64_t>(stopped));

    const pid_t dead = ::fork();
    require(dead >= 0, "fork");
    if (dead == 0) ::_exit(3);
    siginfo_t info;
    require(::waitid(P_PID, static_cast<id_t>(dead), &info, WEXITED | WNOWAIT) == 0, "waitid");
    note("zombie_pid", static_cast<std::uint64_t>(dead));
}

// What the second dump must be seen to differ in.
void change(char* memory, char* shared, char* file_private, int timer) {
    memory[3 * kPage + 100] = '!';
    memory[10 * kPage] = '!';
    std::memset(memory + 40 * kPage, '+', 2 * kPage);
    require(::madvise(memory + 20 * kPage, kPage, MADV_DONTNEED) == 0, "madvise");
    shared[kPage] = '!';
    file_private[2 * kPage] = '!';
    ::close(timer);
    const int opened = ::open("/dev/zero", O_RDONLY);
    require(opened >= 0, "/dev/zero");
    require(opened == timer, "the lowest descriptor is reused");
    const int extra = ::open("/dev/zero", O_RDONLY | O_CLOEXEC);
    require(extra >= 0, "/dev/zero again");
    facts.clear();
    note("extra_fd", static_cast<std::uint64_t>(extra));
    const pid_t child = ::fork();
    require(child >= 0, "fork");
    if (child == 0) sleep_as_child("subject-late");
    note("late_pid", static_cast<std::uint64_t>(child));
    require(::waitpid(-1, nullptr, WNOHANG) > 0, "reap the zombie");
}

}  // namespace

int main(int argc, char** argv) {
    require(argc == 2, "usage: dump_subject DIRECTORY");
    directory = argv[1];
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::prctl(PR_SET_NAME, "subject-root");
    require(::chdir(directory.c_str()) == 0, "chdir");
    sigset_t go_on;
    ::sigemptyset(&go_on);
    ::sigaddset(&go_on, SIGUSR1);
    ::sigprocmask(SIG_BLOCK, &go_on, nullptr);

    char* memory = make_private_memory();
    char* shared = map_anonymous(4, MAP_SHARED);
    std::memset(shared, 's', 2 * kPage);
    note_address("shared", shared);
    char* heap = static_cast<char*>(std::malloc(1000));
    require(heap != nullptr, "malloc");
    std::memcpy(heap, "on the heap", 11);
    note_address("heap", heap);
    const char on_stack[] = "on the stack";
    note_address("stack", on_stack);
    char* file_private = nullptr;
    make_files(&file_private);
    const int timer = make_kernel_objects();
    make_children();
    pthread_t threads[2];
    for (pthread_t& thread : threads) {
        require(::pthread_create(&thread, nullptr, sleep_as_thread, nullptr) == 0, "thread");
    }
    note("root_pid", static_cast<std::uint64_t>(::getpid()));
    publish("facts", facts);
    int signal = 0;
    require(::sigwait(&go_on, &signal) == 0, "sigwait");
    change(memory, shared, file_private, timer);
    publish("changed", facts);
    for (;;) ::pause();
}
