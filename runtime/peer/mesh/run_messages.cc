#include "runtime/peer/mesh/run_messages.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "dsm/base/byte_text.h"
#include "dsm/wire/codec.h"
#include "messages_generated.h"

namespace ppdsm {

using Json = nlohmann::json;

Status with_head(const std::string& text, const std::function<void(const Json&)>& use) {
    const Json head = Json::parse(text, nullptr, false);
    if (!head.is_object()) return fail(Code::kCorrupt, "a message whose head is no JSON object");
    try {
        use(head);
    } catch (const Json::exception& error) {
        return fail(Code::kCorrupt, std::string("a message with a wrong head: ") + error.what());
    }
    return {};
}

void send_command(Mesh& mesh, const PeerId& worker, const Incarnation& to, const Json& head,
                  Bytes data) {
    wire::CommandT message;
    message.vc = to.vc;
    message.epoch = to.epoch;
    message.head = head.dump();
    message.data = std::move(data);
    (void)mesh.send(worker, Priority::kBulk, MessageType::kCommand, 0,
                    encode_message<wire::Command>(message));
}

void fence(Mesh& mesh, const PeerId& worker, const Incarnation& to, const std::string& why) {
    send_command(mesh, worker, to, {{"do", "fence"}, {"why", bytes_to_utf8(why)}});
}

void send_event(Mesh& mesh, const PeerId& deployer, const Incarnation& from, std::string head,
                Bytes data) {
    wire::EventT message;
    message.vc = from.vc;
    message.epoch = from.epoch;
    message.head = std::move(head);
    message.data = std::move(data);
    (void)mesh.send(deployer, Priority::kBulk, MessageType::kEvent, 0,
                    encode_message<wire::Event>(message));
}

bool contains(const std::vector<PeerId>& peers, const PeerId& peer) {
    return std::find(peers.begin(), peers.end(), peer) != peers.end();
}

Json peers_to_json(const std::vector<PeerId>& peers) {
    Json list = Json::array();
    for (const PeerId& peer : peers) list.push_back(peer.to_string());
    return list;
}

std::vector<PeerId> peers_from_json(const Json& list) {
    std::vector<PeerId> peers;
    for (const Json& text : list) {
        const Result<PeerId> peer =
            text.is_string() ? PeerId::parse(text.get<std::string>()) : fail(Code::kInvalid, "");
        if (peer) peers.push_back(*peer);
    }
    return peers;
}

void put_failures(Json& head, const CopyFailures& failures) {
    if (failures.text.empty()) return;
    head["failures"] = bytes_to_utf8(failures.text);
    head["unable"] = peers_to_json(failures.unable);
}

CopyFailures failures_from_json(const Json& head) {
    return {utf8_to_bytes(head.value("failures", "")),
            peers_from_json(head.value("unable", Json::array()))};
}

}  // namespace ppdsm
