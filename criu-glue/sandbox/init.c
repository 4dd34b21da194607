// Process 1 of a sandbox: starts the program as its child and reaps orphans until none is left. It
// is part of every checkpoint, so it is tiny, static and holds no descriptor. Its name (comm) tells
// the warden outside how the program ended, since an exit code cannot carry a whole wait status and
// a name survives a restore: "ppdsm-init" while the program runs, "ppdsm:<status>" (decimal)
// afterwards.
//
// usage: init PATH ARG0 [ARG...]   (3: a socket, of which the end tells that the program is forked)
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

enum { kCannotExecute = 126, kNotFound = 127, kMaxArguments = 1 << 16, kLinkFd = 3 };

static void execute(const char* path, char** argv, int count) {
    execve(path, argv, environ);
    if (errno == ENOEXEC && count < kMaxArguments) {
        // A script without "#!" runs under the shell, as it does from any shell.
        static char* shell_argv[kMaxArguments + 2];
        shell_argv[0] = "sh";
        shell_argv[1] = (char*)path;
        for (int i = 1; i <= count; ++i) shell_argv[i + 1] = argv[i];
        execve("/bin/sh", shell_argv, environ);
    }
    const int error = errno;
    dprintf(2, "ppdsm: cannot execute %s: %s\n", path, strerror(error));
    _exit(error == ENOENT || error == ENOTDIR ? kNotFound : kCannotExecute);
}

static void run_program(const char* path, char** argv, int count, const sigset_t* signals) {
    close(kLinkFd);
    setsid();
    if (isatty(0)) ioctl(0, TIOCSCTTY, 0);
    sigprocmask(SIG_SETMASK, signals, NULL);
    execute(path, argv, count);
}

static void publish(int status) {
    char name[16];
    snprintf(name, sizeof name, "ppdsm:%d", status);
    prctl(PR_SET_NAME, name);
}

int main(int argc, char** argv) {
    if (argc < 3) return kCannotExecute;
    prctl(PR_SET_NAME, "ppdsm-init");
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    const pid_t program = fork();
    if (program < 0) {
        dprintf(2, "ppdsm: cannot start %s: %s\n", argv[1], strerror(errno));
        return kCannotExecute;
    }
    if (program == 0) run_program(argv[1], argv + 2, argc - 2, &before);
    for (int fd = 0; fd <= kLinkFd; ++fd) close(fd);
    for (;;) {
        int status = 0;
        const pid_t ended = waitpid(-1, &status, 0);
        if (ended == program) {
            publish(status);
            // A killed program takes its tree with it, so that recovery begins at once.
            if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) return 0;
        }
        if (ended < 0 && errno == ECHILD) return 0;
    }
}
