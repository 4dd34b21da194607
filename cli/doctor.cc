#include "cli/doctor.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>

namespace ppdsm {

namespace {

constexpr int kExitWorks = 0;
constexpr int kExitLacking = 1;
constexpr int kExitFailed = 125;

struct Paint {
    bool colour;

    [[nodiscard]] std::string operator()(const char* code, std::string text) const {
        return colour ? fmt::format("\033[{}m{}\033[0m", code, text) : text;
    }
};

constexpr const char* kGreen = "32";
constexpr const char* kYellow = "33";
constexpr const char* kRed = "31";
constexpr const char* kDim = "2";

/// One entry: a line, and for what is missing two more. Padded before painting: escapes have no
/// width.
std::string entry(const Paint& paint, const Ability& ability, std::size_t name_width) {
    const char* state = ability.present ? "ok" : ability.needed ? "NEEDED" : "missing";
    const char* code = ability.present ? kGreen : ability.needed ? kRed : kYellow;
    std::string text = fmt::format("  {}  {:<{}}  {}\n", paint(code, fmt::format("{:<7}", state)),
                                   ability.name, name_width, ability.detail);
    if (ability.present) return text;
    const std::string indent(11, ' ');
    text += fmt::format("{}{} {}\n", indent, paint(kDim, "cost:  "), ability.cost);
    text += fmt::format("{}{} {}\n", indent, paint(kDim, "remedy:"), ability.remedy);
    return text;
}

/// CRIU as one more entry of the table.
Ability criu_entry(const DoctorFindings& findings) {
    Ability entry;
    entry.name = "criu";
    entry.present = findings.criu.has_value();
    entry.needed = true;
    entry.cost = "no checkpoints";
    entry.remedy =
        "ci/install-criu.sh of the source tree, or PPDSM_CRIU=/path/to/criu (4.1 or newer)";
    entry.detail = findings.criu_problem;
    if (findings.criu) {
        entry.detail = fmt::format("{} at {}, passes its check{}", findings.criu->version_text,
                                   findings.criu->path.string(),
                                   findings.criu->unprivileged ? " with --unprivileged" : "");
    }
    return entry;
}

}  // namespace

bool DoctorFindings::can_checkpoint() const {
    return criu.has_value() &&
           std::none_of(abilities.list.begin(), abilities.list.end(),
                        [](const Ability& ability) { return ability.needed && !ability.present; });
}

Result<DoctorFindings> examine_machine() {
    DoctorFindings findings;
    PPDSM_ASSIGN(findings.abilities, probe_abilities());
    Result<CriuInstallation> criu = locate_criu({});
    if (criu) {
        findings.criu = *std::move(criu);
    } else {
        findings.criu_problem = criu.error().message();
    }
    return findings;
}

std::string doctor_table(const DoctorFindings& findings, bool colour) {
    const Paint paint{colour};
    std::vector<Ability> rows = {criu_entry(findings)};
    rows.insert(rows.end(), findings.abilities.list.begin(), findings.abilities.list.end());
    std::size_t name_width = 0;
    for (const Ability& row : rows) name_width = std::max(name_width, row.name.size());

    std::string text =
        fmt::format("ppdsm {} on Linux {} {}, as {}\n", PPDSM_VERSION, findings.abilities.kernel,
                    findings.abilities.machine,
                    findings.abilities.uid == 0 ? std::string("root")
                                                : fmt::format("user {}", findings.abilities.uid));
    for (const Ability& row : rows) text += entry(paint, row, name_width);
    const auto missing =
        std::count_if(rows.begin(), rows.end(), [](const Ability& row) { return !row.present; });
    if (!findings.can_checkpoint()) {
        text += paint(kRed, "ppdsm exec cannot checkpoint here: see NEEDED above.") + "\n";
    } else if (missing > 0) {
        text += fmt::format(
            "ppdsm exec works here, with checkpoints; {} missing that would help.\n", missing);
    } else {
        text += "ppdsm exec works here, with checkpoints.\n";
    }
    return text;
}

std::string doctor_json(const DoctorFindings& findings) {
    using Json = nlohmann::ordered_json;
    Json criu = {{"present", findings.criu.has_value()}};
    if (findings.criu) {
        criu["path"] = findings.criu->path.string();
        criu["version"] = findings.criu->version_text;
        criu["command"] = findings.criu->command;
        criu["unprivileged"] = findings.criu->unprivileged;
    } else {
        criu["problem"] = findings.criu_problem;
    }
    Json abilities = Json::array();
    for (const Ability& ability : findings.abilities.list) {
        Json one = {{"name", ability.name},
                    {"present", ability.present},
                    {"needed", ability.needed},
                    {"detail", ability.detail}};
        if (!ability.present) {
            one["cost"] = ability.cost;
            one["remedy"] = ability.remedy;
        }
        abilities.push_back(std::move(one));
    }
    const Json document = {{"version", PPDSM_VERSION},
                           {"kernel", findings.abilities.kernel},
                           {"machine", findings.abilities.machine},
                           {"uid", findings.abilities.uid},
                           {"checkpoints", findings.can_checkpoint()},
                           {"criu", std::move(criu)},
                           {"abilities", std::move(abilities)},
                           {"cpu_features", findings.abilities.cpu_features}};
    // Bytes that are no UTF-8 (a path may hold any) are replaced, not thrown about.
    return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

int run_doctor(bool json) {
    const Result<DoctorFindings> findings = examine_machine();
    if (!findings) {
        fmt::print(stderr, "ppdsm: doctor: {}\n", findings.error().message());
        return kExitFailed;
    }
    const bool colour = ::isatty(STDOUT_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr;
    const std::string text = json ? doctor_json(*findings) : doctor_table(*findings, colour);
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() ||
        std::fflush(stdout) != 0) {
        fmt::print(stderr, "ppdsm: doctor: cannot write to standard output\n");
        return kExitFailed;
    }
    return findings->can_checkpoint() ? kExitWorks : kExitLacking;
}

}  // namespace ppdsm
