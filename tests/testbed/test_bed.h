// Hosts for tests of a mesh, on one machine: each has a network, a host name and a view of the
// files of its own, in which what belongs to other hosts does not exist. Frames between them pass a
// VirtualSwitch. All of it is gone with the processes of the test, also after kill -9: nothing has
// a name outside but cgroups, which the next bed removes.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/peer/cgroup.h"
#include "tests/process/child_process.h"
#include "tests/testbed/virtual_switch.h"

namespace ppdsm::process_test {

struct HostOptions {
    /// Directories of the bed's world that this host has; all else there is not there for it.
    std::vector<std::string> directories;
    /// Paths of the machine that this host has not.
    std::vector<std::filesystem::path> hidden;
    double cpus = 0;               ///< 0: all of the machine's.
    std::uint64_t disk_bytes = 0;  ///< Of each directory, a disk of its own; 0: the world's.
};

class TestBed {
public:
    using Environment = std::map<std::string, std::string>;
    /// `world`: what hosts see parts of; `environment`: of the processes that hold the hosts.
    TestBed(std::filesystem::path world, Environment environment);
    ~TestBed();
    TestBed(const TestBed&) = delete;
    TestBed& operator=(const TestBed&) = delete;

    /// Aborts with what is missing when the machine cannot have hosts.
    void add_host(const std::string& name, const HostOptions& options);
    /// A command that runs `argv` on the host, in `cwd`. Its process is the one that is started.
    [[nodiscard]] std::vector<std::string> enter(const std::string& host,
                                                 const std::vector<std::string>& argv,
                                                 const std::filesystem::path& cwd) const;
    [[nodiscard]] std::string address(const std::string& host) const;

    /// Between `some` and all the others nothing passes, silently, until heal().
    void partition(const std::vector<std::string>& some);
    void heal();
    void set_delay(const std::string& a, const std::string& b, std::chrono::microseconds delay);
    void set_loss(const std::string& a, const std::string& b, double part);

private:
    struct Host {
        std::size_t port = 0;
        LimitGroup limits;
        std::unique_ptr<ChildProcess> holder;  ///< Its namespaces live as long as it.
    };
    template <typename Change>
    void change_paths(const Change& change);

    std::filesystem::path world_;
    Environment environment_;
    VirtualSwitch switch_;
    std::map<std::string, Host> hosts_;
};

}  // namespace ppdsm::process_test
