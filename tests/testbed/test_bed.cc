#include "tests/testbed/test_bed.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

namespace ppdsm::process_test {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kDevice = "eth0";
constexpr std::chrono::seconds kSetUpTime{30};

[[noreturn]] void give_up(const std::string& what) {
    std::fprintf(stderr, "the test bed cannot be set up: %s\n", what.c_str());
    std::abort();
}

std::string quoted(const std::string& text) {
    std::string shell = "'";
    for (const char c : text) shell += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return shell + "'";
}

/// Run in fresh namespaces: what of the files the host sees. The world is put aside, emptied, and
/// given back directory by directory.
std::string files_script(const fs::path& world, const HostOptions& options) {
    const std::string top = quoted(world);
    std::string script =
        "set -e; mount --make-rprivate /; mount -t tmpfs tmpfs /mnt; mkdir /mnt/w; "
        "mount --bind " +
        top + " /mnt/w; mount -t tmpfs tmpfs " + top + "; ";
    for (const std::string& directory : options.directories) {
        const std::string inside = quoted((world / directory).string());
        const std::string disk =
            options.disk_bytes == 0
                ? "--bind /mnt/w/" + quoted(directory)
                : "-t tmpfs -o mode=0700,size=" + std::to_string(options.disk_bytes) + " tmpfs";
        script += "mkdir -p " + inside + "; mount " + disk + " " + inside + "; ";
    }
    script += "umount /mnt/w; umount /mnt; ";
    for (const fs::path& path : options.hidden) {
        script += "mount -t tmpfs tmpfs " + quoted(path.string()) + "; ";
    }
    return script;
}

/// A TAP device in the network namespace of `pid`; gone when the descriptor is closed.
OwnedFd make_tap(pid_t pid) {
    OwnedFd tap;
    // In a thread of its own, which may end up in another namespace than the rest.
    std::thread maker([&] {
        const OwnedFd network(
            ::open(("/proc/" + std::to_string(pid) + "/ns/net").c_str(), O_RDONLY | O_CLOEXEC));
        if (::setns(network.get(), CLONE_NEWNET) != 0) return;
        tap.reset(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
        ifreq request{};
        kDevice.copy(request.ifr_name, IFNAMSIZ - 1);
        request.ifr_flags = IFF_TAP | IFF_NO_PI;
        if (::ioctl(tap.get(), TUNSETIFF, &request) != 0) tap.reset();
    });
    maker.join();
    return tap;
}

}  // namespace

TestBed::TestBed(fs::path world, Environment environment)
    : world_(std::move(world)), environment_(std::move(environment)) {}

TestBed::~TestBed() {
    for (auto& [name, host] : hosts_) {
        host.holder->close_input();
        host.holder->wait(kSetUpTime);
    }
}

std::string TestBed::address(const std::string& host) const {
    return "10.77.0." + std::to_string(hosts_.at(host).port + 1);
}

void TestBed::add_host(const std::string& name, const HostOptions& options) {
    Host& host = hosts_[name];
    if (options.cpus > 0) {
        Result<LimitGroup> limits =
            LimitGroup::create("ppdsm-bed-" + std::to_string(::getpid()) + "-" + name,
                               {0, options.cpus}, world_ / ("limits-" + name));
        if (!limits) give_up(limits.error().message());
        host.limits = *std::move(limits);
    }
    std::string script = files_script(world_, options);
    script += "hostname " + quoted(name) + "; ip link set lo up; echo ready; ";
    // Configured when its device is there; then it holds the namespaces until its input ends.
    script += "read configure; eval \"$configure\"; echo up; cat >/dev/null";
    host.holder = std::make_unique<ChildProcess>(
        std::vector<std::string>{"unshare", "--net", "--mount", "--uts", "sh", "-c", script},
        world_, environment_, Input::open_pipe());
    const auto wait_for = [&](const char* word) {
        const auto deadline = std::chrono::steady_clock::now() + kSetUpTime;
        while (host.holder->out_so_far().find(word) == std::string::npos) {
            if (host.holder->has_ended() || std::chrono::steady_clock::now() > deadline) {
                give_up("host " + name + ": " + host.holder->wait(kSetUpTime).err);
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(2));
        }
    };
    wait_for("ready");
    OwnedFd tap = make_tap(host.holder->pid());
    if (!tap.valid()) give_up(std::string("a TAP device: ") + std::strerror(errno));
    host.port = switch_.add_port(std::move(tap));
    const std::string device(kDevice);
    host.holder->write_input("ip link set " + device + " address " +
                             VirtualSwitch::mac_of(host.port) + " mtu 16000 && ip addr add " +
                             address(name) + "/24 dev " + device + " && ip link set " + device +
                             " up\n");
    wait_for("up\n");
}

std::vector<std::string> TestBed::enter(const std::string& host,
                                        const std::vector<std::string>& argv,
                                        const fs::path& cwd) const {
    const Host& entered = hosts_.at(host);
    std::string script;
    for (const std::string& group : entered.limits.directories()) {
        script += "echo 0 > " + quoted(group + "/cgroup.procs") + " && ";
    }
    script += "exec nsenter --target " + std::to_string(entered.holder->pid()) +
              " --net --mount --uts -- sh -c 'cd \"$0\" && exec \"$@\"' \"$@\"";
    std::vector<std::string> command = {"sh", "-c", script, "sh", cwd.string()};
    command.insert(command.end(), argv.begin(), argv.end());
    return command;
}

template <typename Change>
void TestBed::change_paths(const Change& change) {
    for (const auto& [from, source] : hosts_) {
        for (const auto& [to, destination] : hosts_) {
            if (from == to) continue;
            VirtualSwitch::Path path = switch_.path(source.port, destination.port);
            change(from, to, path);
            switch_.set_path(source.port, destination.port, path);
        }
    }
}

void TestBed::partition(const std::vector<std::string>& some) {
    const auto is_one = [&](const std::string& name) {
        return std::find(some.begin(), some.end(), name) != some.end();
    };
    change_paths([&](const std::string& from, const std::string& to, VirtualSwitch::Path& path) {
        path.is_cut = is_one(from) != is_one(to);
    });
}

void TestBed::heal() {
    change_paths([](const std::string&, const std::string&, VirtualSwitch::Path& path) {
        path.is_cut = false;
    });
}

void TestBed::set_delay(const std::string& a, const std::string& b,
                        std::chrono::microseconds delay) {
    change_paths([&](const std::string& from, const std::string& to, VirtualSwitch::Path& path) {
        if ((from == a && to == b) || (from == b && to == a)) path.delay = delay;
    });
}

void TestBed::set_loss(const std::string& a, const std::string& b, double part) {
    change_paths([&](const std::string& from, const std::string& to, VirtualSwitch::Path& path) {
        if ((from == a && to == b) || (from == b && to == a)) path.loss = part;
    });
}

}  // namespace ppdsm::process_test
