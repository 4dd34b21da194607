#include "runtime/peer/mesh/mesh_file_source.h"

#include <algorithm>
#include <deque>
#include <unordered_map>

#include "dsm/base/wall_clock.h"
#include "runtime/peer/mesh/file_messages.h"

namespace ppdsm {

namespace {

constexpr std::uint64_t kLookMs = 500;

}  // namespace

struct MeshFileSource::Impl : std::enable_shared_from_this<Impl> {
    using Answered = std::function<void(Result<Frame>)>;
    /// A question to the owner.
    struct Question {
        MessageType type;
        Bytes payload;
        std::int64_t until_us;
        Answered answered;
    };
    /// Where the owner told a content: it may have forgotten that since.
    struct Told {
        std::string path;
        FileVersion version;
    };

    Impl(Loop& its_loop, Mesh& its_mesh, std::string its_vc, PeerId its_owner)
        : mesh(its_mesh),
          vc(std::move(its_vc)),
          owner(its_owner),
          timer(its_loop, [this] { look(); }) {}

    void ask_owner(MessageType type, Bytes payload, Answered answered);
    void ask(std::shared_ptr<Question> question);
    void ask_again();
    void look();
    void content(const std::string& path, FileVersion version,
                 std::function<void(Result<ContentAnswer>)> done);
    /// The owner first when it has told the content: it is at hand there.
    [[nodiscard]] std::vector<PeerId> candidates(FileId file) const;
    void layout(FileId file, std::vector<PeerId> from, Error last,
                std::function<void(Result<FileLayout>)> done);
    void piece(PieceRequest request, std::vector<PeerId> from, Error last,
               std::function<void(Result<Bytes>)> done);
    void piece_told_again(const PieceRequest& request, const Told& place,
                          std::function<void(Result<Bytes>)> done);

    Mesh& mesh;
    std::string vc;
    PeerId owner;
    std::vector<PeerId> holders;
    std::unordered_map<FileId, Told, FileIdHash> told;
    std::deque<std::shared_ptr<Question>> waiting;
    Timer timer;
};

// The owner.

void MeshFileSource::Impl::ask_owner(MessageType type, Bytes payload, Answered answered) {
    ask(std::make_shared<Question>(
        Question{type, std::move(payload), monotonic_now_us() + kPatienceUs, std::move(answered)}));
}

void MeshFileSource::Impl::ask(std::shared_ptr<Question> question) {
    mesh.request(owner, Priority::kBulk, question->type, question->payload,
                 [weak = weak_from_this(), question](Result<Frame> frame) {
                     const auto self = weak.lock();
                     if (self == nullptr) return;
                     if (frame || frame.error().code() != Code::kUnavailable) {
                         return question->answered(std::move(frame));
                     }
                     self->waiting.push_back(question);
                     if (!self->timer.is_active()) self->timer.start(kLookMs, kLookMs);
                     // The next link may have come before this one's end was told.
                     if (self->mesh.is_linked(self->owner)) self->look();
                 });
}

void MeshFileSource::Impl::ask_again() {
    for (auto& question : std::exchange(waiting, {})) ask(std::move(question));
}

void MeshFileSource::Impl::look() {
    if (waiting.empty()) return timer.stop();
    if (mesh.is_linked(owner)) return ask_again();
    const std::int64_t now_us = monotonic_now_us();
    std::deque<std::shared_ptr<Question>> given_up;
    std::erase_if(waiting, [&](const auto& question) {
        if (question->until_us > now_us) return false;
        given_up.push_back(question);
        return true;
    });
    const auto keep = shared_from_this();
    for (const auto& question : given_up) {
        question->answered(
            fail(Code::kUnavailable, "their owner " + mesh.describe(owner) + " cannot be reached"));
    }
}

void MeshFileSource::Impl::content(const std::string& path, FileVersion version,
                                   std::function<void(Result<ContentAnswer>)> done) {
    ask_owner(MessageType::kGetContent, encode_content_request({vc, path, version, {}}),
              [this, path, version, done = std::move(done)](const Result<Frame>& frame) {
                  if (!frame) return done(fail(frame.error()));
                  ContentReply answer = decode_content_reply(frame->payload);
                  if (answer) told.insert_or_assign(answer->layout.id(), Told{path, version});
                  done(std::move(answer));
              });
}

// Whoever has it.

std::vector<PeerId> MeshFileSource::Impl::candidates(FileId file) const {
    std::vector<PeerId> all;
    for (const PeerId& peer : holders) {
        const bool is_there = peer == mesh.self().id || mesh.is_linked(peer);
        if (peer != owner && is_there) all.push_back(peer);
    }
    all.insert(told.contains(file) ? all.begin() : all.end(), owner);
    return all;
}

void MeshFileSource::Impl::layout(FileId file, std::vector<PeerId> from, Error last,
                                  std::function<void(Result<FileLayout>)> done) {
    if (from.empty()) return done(fail(std::move(last)));
    const PeerId peer = from.front();
    from.erase(from.begin());
    mesh.request(
        peer, Priority::kBulk, MessageType::kGetContent, encode_content_request({vc, {}, {}, file}),
        [weak = weak_from_this(), file, from = std::move(from),
         done = std::move(done)](const Result<Frame>& frame) mutable {
            const auto self = weak.lock();
            if (self == nullptr) return;
            ContentReply answer =
                frame ? decode_content_reply(frame->payload) : fail(frame.error());
            if (answer && answer->layout.id() == file) {
                return done(std::move(answer->layout));
            }
            Error why = answer ? Error(Code::kCorrupt, "another content was told") : answer.error();
            self->layout(file, std::move(from), std::move(why), std::move(done));
        });
}

void MeshFileSource::Impl::piece(PieceRequest request, std::vector<PeerId> from, Error last,
                                 std::function<void(Result<Bytes>)> done) {
    if (from.empty()) {
        const auto place = told.find(request.file);
        if (place == told.end()) return done(fail(std::move(last)));
        return piece_told_again(request, Told(place->second), std::move(done));
    }
    const PeerId peer = from.front();
    from.erase(from.begin());
    mesh.request(peer, Priority::kBulk, MessageType::kGetPiece, encode_piece_request(request),
                 [weak = weak_from_this(), request, from = std::move(from),
                  done = std::move(done)](const Result<Frame>& frame) mutable {
                     const auto self = weak.lock();
                     if (self == nullptr) return;
                     Result<Bytes> bytes =
                         frame ? decode_piece_reply(frame->payload) : fail(frame.error());
                     if (bytes) return done(std::move(bytes));
                     self->piece(request, std::move(from), bytes.error(), std::move(done));
                 });
}

/// An owner that was started again has to be shown the way, and has the last word.
void MeshFileSource::Impl::piece_told_again(const PieceRequest& request, const Told& place,
                                            std::function<void(Result<Bytes>)> done) {
    content(
        place.path, place.version,
        [this, request, path = place.path, done = std::move(done)](const ContentReply& answer) {
            if (!answer) return done(fail(answer.error()));
            if (answer->layout.id() != request.file) {
                return done(fail(Code::kNotFound, path + " changed at home before it was fetched"));
            }
            ask_owner(MessageType::kGetPiece, encode_piece_request(request),
                      [done](const Result<Frame>& frame) {
                          if (!frame) return done(fail(frame.error()));
                          done(decode_piece_reply(frame->payload));
                      });
        });
}

MeshFileSource::MeshFileSource(Loop& loop, Mesh& mesh, std::string vc, PeerId owner)
    : impl_(std::make_shared<Impl>(loop, mesh, std::move(vc), owner)) {}
MeshFileSource::~MeshFileSource() = default;

void MeshFileSource::set_holders(std::vector<PeerId> holders) {
    impl_->holders = std::move(holders);
}
void MeshFileSource::on_linked(const PeerId& peer) {
    if (peer == impl_->owner) impl_->ask_again();
}

void MeshFileSource::list(std::vector<ListQuery> queries,
                          std::function<void(std::vector<Result<ListAnswer>>)> done) {
    const std::size_t count = queries.size();
    impl_->ask_owner(
        MessageType::kListDirectory, encode_list_request({impl_->vc, std::move(queries)}),
        [count, done = std::move(done)](const Result<Frame>& frame) {
            ListReply reply = frame ? decode_list_reply(frame->payload) : fail(frame.error());
            if (reply && reply->size() != count) {
                reply = fail(Code::kCorrupt, "not as many answers as questions");
            }
            if (reply) return done(*std::move(reply));
            done(std::vector<Result<ListAnswer>>(count, fail(reply.error())));
        });
}

void MeshFileSource::content(std::string path, FileVersion version,
                             std::function<void(Result<ContentAnswer>)> done) {
    impl_->content(path, version, std::move(done));
}

void MeshFileSource::layout(FileId file, std::function<void(Result<FileLayout>)> done) {
    impl_->layout(file, impl_->candidates(file), Error(Code::kNotFound, "nobody has it"),
                  std::move(done));
}

void MeshFileSource::piece(FileId file, std::uint32_t index,
                           std::function<void(Result<Bytes>)> done) {
    impl_->piece({impl_->vc, file, index}, impl_->candidates(file),
                 Error(Code::kNotFound, "nobody has it"), std::move(done));
}

}  // namespace ppdsm
