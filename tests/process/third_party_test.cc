// Goal: programs that nobody wrote for ppdsm survive kill -9 with the same output and files.
// Method: each is run plain and then killed at random moments under `ppdsm exec`.
#include "tests/process/third_party.h"

#include <string>
#include <tuple>

#include "tests/process/recovery.h"

namespace ppdsm::process_test {
namespace {

using Parameter = std::tuple<std::size_t, Victim>;
class Programs : public RecoveryTest, public testing::WithParamInterface<Parameter> {};

TEST_P(Programs, EndTheSameWhenKilled) {
    const auto& [index, victim] = GetParam();
    const ThirdParty& party = third_parties()[index];
    if (const std::optional<std::string> missing = missing_command(party.commands)) {
        GTEST_SKIP() << "this machine has no " << *missing << ": apt-get install it";
    }
    Job job;
    job.name = party.name;
    job.argv = party.argv;
    job.prepare = party.prepare;
    expect_survives(job, victim);
}

std::string parameter_name(const testing::TestParamInfo<Parameter>& info) {
    return third_parties()[std::get<0>(info.param)].name + "_" +
           victim_name(std::get<1>(info.param));
}

INSTANTIATE_TEST_SUITE_P(ThirdParty, Programs,
                         testing::Combine(testing::Range<std::size_t>(0, 10),
                                          testing::Values(Victim::kRoot, Victim::kInit,
                                                          Victim::kExecutor)),
                         parameter_name);

}  // namespace
}  // namespace ppdsm::process_test
