// Goal: what --expose names is found through links, and the links are kept, so that the same path
// works inside. Method: a few files and links in a temporary directory.
#include "runtime/peer/exposure.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace ppdsm {
namespace {

namespace fs = std::filesystem;
using Links = std::vector<std::pair<std::string, std::string>>;

class ExposureTest : public testing::Test {
protected:
    void SetUp() override {
        std::string pattern = fs::temp_directory_path() / "ppdsm-expose-XXXXXX";
        ASSERT_NE(mkdtemp(pattern.data()), nullptr);
        directory_ = fs::canonical(pattern);
        fs::create_directories(directory_ / "real/deep");
        std::ofstream(directory_ / "real/file") << "x";
        fs::create_symlink("real", directory_ / "relative");
        fs::create_symlink(directory_ / "relative/deep", directory_ / "absolute");
        fs::create_symlink("../file", directory_ / "real/deep/up");
    }
    void TearDown() override { fs::remove_all(directory_); }
    [[nodiscard]] std::string at(const char* path) const { return directory_ / path; }

    fs::path directory_;
};

TEST_F(ExposureTest, IsReadOnlyUnlessAskedOtherwise) {
    for (const char* suffix : {"", ":ro", ":rw"}) {
        const Result<Exposure> exposure = parse_exposure(at("real/file") + suffix);
        ASSERT_TRUE(exposure) << exposure.error().message();
        EXPECT_EQ(*exposure, (Exposure{at("real/file"), std::string(suffix) == ":rw", {}}));
    }
}

TEST_F(ExposureTest, NamesWhatIsNotThere) {
    const Result<Exposure> exposure = parse_exposure(at("none:rw"));
    ASSERT_FALSE(exposure);
    EXPECT_NE(exposure.error().message().find(at("none:rw")), std::string::npos);
}

TEST_F(ExposureTest, KeepsTheLinksThatLedThere) {
    const Result<Exposure> exposure = parse_exposure(at("./absolute//up"));
    ASSERT_TRUE(exposure) << exposure.error().message();
    EXPECT_EQ(exposure->path, at("real/file"));
    EXPECT_EQ(exposure->links, (Links{{at("absolute"), at("relative/deep")},
                                      {at("relative"), "real"},
                                      {at("real/deep/up"), "../file"}}));
}

}  // namespace
}  // namespace ppdsm
