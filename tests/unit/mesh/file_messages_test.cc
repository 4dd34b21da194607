// Goal: what a peer says about files arrives as it was meant, and what no peer of ours would say is
// refused before it does anything. Method: messages there and back; ones that are cut short,
// changed, or ask for what may not be asked.
#include "runtime/peer/mesh/file_messages.h"

#include <gtest/gtest.h>

namespace ppdsm {
namespace {

const std::string kVc = "psj97sdn";

FileId file_of(const std::string& text) { return FileLayout::of(as_bytes(text)).id(); }

TEST(FileMessages, QuestionsAndAnswersComeAsTheyWere) {
    const std::string odd = "/odd \xff\n";
    const auto asked =
        decode_list_request(encode_list_request({kVc, {{"/plain", file_of("known")}, {odd, {}}}}));
    ASSERT_TRUE(asked) << asked.error().message();
    EXPECT_EQ(asked->vc, kVc);
    ASSERT_EQ(asked->queries.size(), 2U);
    EXPECT_EQ(asked->queries[0].known, file_of("known"));
    EXPECT_EQ(asked->queries[1].path, odd);
    EXPECT_FALSE(asked->queries[1].known);

    std::vector<Result<ListAnswer>> answers;
    answers.emplace_back(ListAnswer{file_of("short"), false, Bytes(100, 1)});
    answers.emplace_back(ListAnswer{file_of("long"), false, Bytes(100'000, 2)});
    answers.emplace_back(ListAnswer{file_of("same"), true, {}});
    answers.emplace_back(fail(Code::kNotFound, "not there"));
    const ListReply told = decode_list_reply(encode_list_reply(std::move(answers)));
    ASSERT_TRUE(told) << told.error().message();
    ASSERT_EQ(told->size(), 4U);
    EXPECT_EQ((*told)[0]->bytes, Bytes(100, 1));
    EXPECT_TRUE((*told)[1]->bytes.empty()) << "it is fetched as a content";
    EXPECT_EQ((*told)[1]->listing, file_of("long"));
    EXPECT_TRUE((*told)[2]->unchanged);
    EXPECT_EQ((*told)[3].error().code(), Code::kNotFound);
    EXPECT_EQ((*told)[3].error().message(), "not there");
}

TEST(FileMessages, ContentsAreAskedForByPathOrByName) {
    const FileVersion version{7, -1, 2};
    const auto by_path = decode_content_request(encode_content_request({kVc, "/a/b", version, {}}));
    ASSERT_TRUE(by_path);
    EXPECT_EQ(by_path->path, "/a/b");
    EXPECT_EQ(by_path->version, version);
    const auto by_name =
        decode_content_request(encode_content_request({kVc, {}, {}, file_of("x")}));
    ASSERT_TRUE(by_name);
    EXPECT_EQ(by_name->file, file_of("x"));
    const Bytes content(3 * kPieceBytes + 5, 9);
    const ContentReply told =
        decode_content_reply(encode_content_reply(ContentAnswer{FileLayout::of(content), true}));
    ASSERT_TRUE(told);
    EXPECT_EQ(told->layout, FileLayout::of(content));
    EXPECT_TRUE(told->is_settled);
}

TEST(FileMessages, PathsThatLeadElsewhereAreRefused) {
    for (const char* path : {"", "relative", "/a/../b", "/a//b", "/a/.", "/a/"}) {
        EXPECT_FALSE(decode_list_request(encode_list_request({kVc, {{path, {}}}}))) << path;
        EXPECT_FALSE(decode_content_request(encode_content_request({kVc, path, {}, {}}))) << path;
    }
    EXPECT_FALSE(decode_list_request(encode_list_request({"../../etc", {{"/a", {}}}})));
    EXPECT_FALSE(decode_catalog_request(encode_catalog_request({"a/b", 0})));
    EXPECT_FALSE(decode_hold_request(encode_hold_request({"", 0, {}, {}})));
    EXPECT_FALSE(decode_piece_request(encode_piece_request({"..", file_of("x"), 0})));
    std::vector<ListQuery> many(FileSource::kMostQueries + 1, ListQuery{"/a", {}});
    EXPECT_FALSE(decode_list_request(encode_list_request({kVc, many})));
}

TEST(FileMessages, WhatIsCutShortIsRefused) {
    const Bytes whole = encode_hold_request({kVc, 5, Bytes(50, 'L'), {}});
    ASSERT_TRUE(decode_hold_request(whole));
    for (std::size_t size = 0; size < whole.size(); ++size) {
        const auto read = decode_hold_request(ByteView(whole).first(size));
        // Its end may be padding, which says nothing.
        EXPECT_TRUE(!read || read->catalog == Bytes(50, 'L')) << size;
        EXPECT_TRUE(!read || size + 8 > whole.size()) << size;
    }
    EXPECT_FALSE(decode_piece_request(Bytes(64, 0xff)));
    EXPECT_FALSE(decode_content_reply({}));
}

}  // namespace
}  // namespace ppdsm
