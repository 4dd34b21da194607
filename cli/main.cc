// The `ppdsm` command.
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/doctor.h"

namespace ppdsm {

int report(const Error& error, int exit_code) {
    std::fprintf(stderr, "ppdsm: %s\n", error.message().c_str());
    return exit_code;
}

}  // namespace ppdsm

int main(int argc, char** argv) {
    CLI::App app("Runs programs so that no machine's death stops them.", "ppdsm");
    app.set_version_flag("--version", std::string("ppdsm ") + PPDSM_VERSION);
    app.require_subcommand(1);
    int exit_code = 0;
    std::vector<std::string> program;
    ppdsm::add_exec_commands(app, program, exit_code);
    ppdsm::add_vc_commands(app, exit_code);
    ppdsm::add_peer_commands(app, exit_code);
    ppdsm::add_inspect_commands(app, exit_code);
    bool json = false;
    CLI::App* doctor =
        app.add_subcommand("doctor", "Say what this machine can do and what is missing");
    doctor->add_flag("--json", json, "For programs");
    doctor->callback([&] { exit_code = ppdsm::run_doctor(json); });
    std::vector<std::string> arguments(argv + 1, argv + argc);
    program = ppdsm::split_off_program(app, arguments);
    std::reverse(arguments.begin(), arguments.end());  // As CLI11 takes a vector.
    try {
        app.parse(arguments);
    } catch (const CLI::ParseError& bad) {
        const int code = app.exit(bad);
        return code == 0 ? 0 : ppdsm::kFailedExitCode;
    }
    return exit_code;
}
