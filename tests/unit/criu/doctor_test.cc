// Goal: the verdict follows from the findings, people see cost and remedy of what is missing and
// nothing else of it, scripts get valid JSON whatever bytes a path holds.
#include "cli/doctor.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace ppdsm {
namespace {

DoctorFindings sound_machine() {
    DoctorFindings findings;
    findings.criu = CriuInstallation{"/opt/criu", {"/opt/criu"}, 40101, "4.1.1", false};
    findings.abilities.kernel = "6.12.1";
    findings.abilities.machine = "x86_64";
    findings.abilities.list = {
        {"alpha", true, true, "alpha works", "alpha's cost", "alpha's remedy"},
        {"beta", true, false, "beta works", "beta's cost", "beta's remedy"}};
    findings.abilities.cpu_features = {"avx", "sse"};
    return findings;
}

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

TEST(Doctor, FindsASoundMachineSound) {
    const DoctorFindings findings = sound_machine();
    EXPECT_TRUE(findings.can_checkpoint());
    const std::string table = doctor_table(findings, false);
    EXPECT_TRUE(has(table, "4.1.1 at /opt/criu"));
    EXPECT_TRUE(has(table, "works here, with checkpoints.\n"));
    EXPECT_FALSE(has(table, "remedy"));
    EXPECT_FALSE(has(table, "\033"));
}

TEST(Doctor, NamesCostAndRemedyOfWhatIsMissing) {
    DoctorFindings findings = sound_machine();
    findings.abilities.list[1].present = false;
    EXPECT_TRUE(findings.can_checkpoint());
    const std::string table = doctor_table(findings, false);
    EXPECT_TRUE(has(table, "missing"));
    EXPECT_TRUE(has(table, "beta's cost"));
    EXPECT_TRUE(has(table, "beta's remedy"));
    EXPECT_FALSE(has(table, "alpha's cost"));
    EXPECT_TRUE(has(table, "1 missing that would help"));
}

TEST(Doctor, SaysWhenCheckpointsCannotWork) {
    DoctorFindings findings = sound_machine();
    findings.abilities.list[0].present = false;
    EXPECT_FALSE(findings.can_checkpoint());
    EXPECT_TRUE(has(doctor_table(findings, false), "NEEDED"));
    EXPECT_TRUE(has(doctor_table(findings, false), "cannot checkpoint here"));

    findings = sound_machine();
    findings.criu.reset();
    findings.criu_problem = "no CRIU found";
    EXPECT_FALSE(findings.can_checkpoint());
    EXPECT_TRUE(has(doctor_table(findings, false), "no CRIU found"));
}

TEST(Doctor, ColoursOnRequestOnly) {
    EXPECT_TRUE(has(doctor_table(sound_machine(), true), "\033["));
}

TEST(Doctor, SpeaksJson) {
    DoctorFindings findings = sound_machine();
    findings.abilities.list[0].present = false;
    const nlohmann::json document = nlohmann::json::parse(doctor_json(findings));
    EXPECT_EQ(document["checkpoints"], false);
    EXPECT_EQ(document["kernel"], "6.12.1");
    EXPECT_EQ(document["criu"]["version"], "4.1.1");
    ASSERT_EQ(document["abilities"].size(), 2U);
    EXPECT_EQ(document["abilities"][0]["name"], "alpha");
    EXPECT_EQ(document["abilities"][0]["remedy"], "alpha's remedy");
    EXPECT_FALSE(document["abilities"][1].contains("remedy"));
    EXPECT_EQ(document["cpu_features"], (nlohmann::json{"avx", "sse"}));
}

TEST(Doctor, KeepsJsonValidWhateverThePath) {
    DoctorFindings findings = sound_machine();
    findings.criu->path = "/opt/\xff\"criu";
    EXPECT_TRUE(nlohmann::json::accept(doctor_json(findings)));
}

}  // namespace
}  // namespace ppdsm
