// `ppdsm doctor`: which CRIU, kernel abilities and privileges are there, what each missing one
// costs, and how to get it. It tries everything anew; kept answers are neither used nor written.
#pragma once

#include <optional>
#include <string>

#include "criu-glue/criu/abilities.h"
#include "criu-glue/criu/locate_criu.h"

namespace ppdsm {

struct DoctorFindings {
    std::optional<CriuInstallation> criu;
    std::string criu_problem;  ///< Why there is none; empty when there is one.
    Abilities abilities;

    /// Whether `ppdsm exec` works with checkpoints: CRIU passes its own check, and nothing needed
    /// is missing.
    [[nodiscard]] bool can_checkpoint() const;
};

Result<DoctorFindings> examine_machine();

/// For people. `colour`: with terminal escapes.
std::string doctor_table(const DoctorFindings& findings, bool colour);
/// For scripts: one object, indented.
std::string doctor_json(const DoctorFindings& findings);

/// Prints one of them to standard output. Returns the exit code: 0 when `ppdsm exec` works with
/// checkpoints, 1 when it does not, 125 when the question could not be answered.
int run_doctor(bool json);

}  // namespace ppdsm
