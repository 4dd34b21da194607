// What this machine and this user can do of what ppdsm makes use of: each tried for real, since a
// version number or a file in /proc says little about containers and patched kernels. `ppdsm
// doctor` shows it; peers advertise it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "dsm/base/result.h"

namespace ppdsm {

struct Ability {
    std::string name;  ///< Stable, for scripts: "soft-dirty".
    bool present = false;
    bool needed = false;  ///< Without it `ppdsm exec` cannot checkpoint at all here.
    std::string detail;   ///< In what way it is there, or why not.
    std::string cost;     ///< What is lost without it.
    std::string remedy;   ///< How to get it.
};

struct Abilities {
    std::string kernel;   ///< "6.12.1"
    std::string machine;  ///< "x86_64"
    unsigned uid = 0;     ///< Effective user.
    std::vector<Ability> list;
    std::vector<std::string> cpu_features;  ///< As the kernel names them, sorted.

    [[nodiscard]] const Ability* find(std::string_view name) const;
};

/// Forks a child per probe: call it before starting threads. Takes some ten milliseconds.
/// kUnsupported when /proc is not mounted.
Result<Abilities> probe_abilities();

/// The x86-64 micro-architecture level (1-4) that these features amount to; 0 on other machines.
int x86_level(const std::vector<std::string>& cpu_features);

}  // namespace ppdsm
