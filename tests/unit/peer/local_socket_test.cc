// Goal: what another process says over a local socket ends that connection at worst. Method: a real
// socket pair; the other end says what no command says.
#include "runtime/peer/local/local_socket.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "dsm/base/packet_socket.h"

namespace ppdsm {
namespace {

TEST(LocalSocket, AFieldOfAWrongTypeEndsTheConnection) {
    Loop loop;
    auto ends = make_packet_pair();
    ASSERT_TRUE(ends);
    LocalSocket ours(loop, std::move(ends->first));
    LocalSocket theirs(loop, std::move(ends->second));
    std::string heard;
    bool is_closed = false;
    ours.listen({[&](const nlohmann::json& head, LocalMessage) { heard += head.value("do", ""); },
                 [&] {
                     is_closed = true;
                     loop.stop();
                 }});
    theirs.send({{"do", "one"}});
    theirs.send({{"do", 5}});
    theirs.send({{"do", "two"}});
    loop.run();
    EXPECT_TRUE(is_closed);
    EXPECT_EQ(heard, "one");
}

}  // namespace
}  // namespace ppdsm
