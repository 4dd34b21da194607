// `ppdsm checkpoint`, `memory` and `restore`: the families' common root.
#include "cli/inspect.h"

#include "cli/commands.h"

namespace ppdsm {

void add_inspect_commands(CLI::App& app, int& exit_code) {
    CLI::App* checkpoint =
        app.add_subcommand("checkpoint", "Make, look into, keep and carry checkpoints");
    checkpoint->require_subcommand(1);
    add_checkpoint_commands(*checkpoint, exit_code);
    add_show_commands(*checkpoint, exit_code);
    add_memory_commands(app, exit_code);
    add_restore_command(app, exit_code);
}

}  // namespace ppdsm
