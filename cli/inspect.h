// The parts of the inspecting commands.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace ppdsm {

void add_checkpoint_commands(CLI::App& checkpoint, int& exit_code);  ///< checkpoint_commands.cc
void add_show_commands(CLI::App& checkpoint,
                       int& exit_code);  ///< show and diff: checkpoint_show.cc
int run_diff(const std::string& from, const std::string& to, bool as_json);  ///< checkpoint_diff.cc
void add_memory_commands(CLI::App& app, int& exit_code);                     ///< memory_commands.cc
void add_restore_command(CLI::App& app, int& exit_code);                     ///< restore.cc

}  // namespace ppdsm
