#include "runtime/peer/host_record.h"

#include <sys/utsname.h>

#include <algorithm>
#include <fstream>
#include <sstream>

namespace ppdsm {

namespace {

HostRecord read_host() {
    HostRecord host;
    utsname names{};
    ::uname(&names);
    host.kernel_release = names.release;
    host.machine = names.machine;
    std::ifstream cpuinfo("/proc/cpuinfo");
    for (std::string line; std::getline(cpuinfo, line);) {
        if (!line.starts_with("flags")) continue;
        std::istringstream flags(line.substr(line.find(':') + 1));
        for (std::string flag; flags >> flag;) host.cpu_features.push_back(flag);
        break;
    }
    std::sort(host.cpu_features.begin(), host.cpu_features.end());
    return host;
}

}  // namespace

HostRecord describe_host(std::string criu_version) {
    HostRecord host = read_host();
    host.criu_version = std::move(criu_version);
    return host;
}

}  // namespace ppdsm
