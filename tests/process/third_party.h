// Programs that nobody wrote for ppdsm: what a Debian machine has, on generated input that takes it
// some seconds.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tests/process/harness.h"

namespace ppdsm::process_test {

struct ThirdParty {
    std::string name;
    std::vector<std::string> commands;  ///< What the machine must have.
    Arguments argv;
    std::function<void(const fs::path&)> prepare;
    bool compares_inodes = false;  ///< Its files' inode numbers are part of its state.
};
const std::vector<ThirdParty>& third_parties();

}  // namespace ppdsm::process_test
