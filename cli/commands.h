// The `ppdsm` command's families: each adds its subcommands to the command line and sets the exit
// code when one of them has run.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "dsm/base/result.h"
#include "runtime/peer/wait_status.h"

namespace ppdsm {

/// Says the error on stderr in one line.
int report(const Error& error, int exit_code = kFailedExitCode);

/// For `exec`: removes the program and its arguments from the command line and returns them. They
/// begin behind "--", or at the first word that is neither an option of ours nor an option's value.
std::vector<std::string> split_off_program(const CLI::App& app,
                                           std::vector<std::string>& arguments);

/// exec, resume (exec.cc). `program`: what split_off_program() found, read when the command runs.
void add_exec_commands(CLI::App& app, const std::vector<std::string>& program, int& exit_code);
void add_vc_commands(CLI::App& app, int& exit_code);  ///< ps, logs, kill, wait, rm (vc_commands.cc)
void add_peer_commands(CLI::App& app, int& exit_code);  ///< peer ... (peer_commands.cc)
void add_inspect_commands(CLI::App& app,
                          int& exit_code);  ///< checkpoint, memory, restore (inspect.cc)

}  // namespace ppdsm
