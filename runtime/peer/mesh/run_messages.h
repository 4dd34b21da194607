// What deployer and worker of a run say to each other, as both sides write it.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "runtime/peer/mesh/copy_failures.h"
#include "runtime/peer/mesh/mesh.h"

namespace ppdsm {

/// One incarnation of a VC.
struct Incarnation {
    std::string vc;
    std::uint64_t epoch = 0;
};

/// A message's line of JSON, which another machine wrote: kCorrupt where it is none, or where `use`
/// finds a field of another type than it has.
Status with_head(const std::string& text, const std::function<void(const nlohmann::json&)>& use);

/// To the worker that runs it.
void send_command(Mesh& mesh, const PeerId& worker, const Incarnation& to,
                  const nlohmann::json& head, Bytes data = {});
/// Ends it, whatever it is doing: nothing that it says counts any more.
void fence(Mesh& mesh, const PeerId& worker, const Incarnation& to, const std::string& why);
/// To the deployer.
void send_event(Mesh& mesh, const PeerId& deployer, const Incarnation& from, std::string head,
                Bytes data);

[[nodiscard]] bool contains(const std::vector<PeerId>& peers, const PeerId& peer);
/// Peers as a list in such a message; what is no id is left out.
nlohmann::json peers_to_json(const std::vector<PeerId>& peers);
std::vector<PeerId> peers_from_json(const nlohmann::json& list);
/// As members of an event; none when there are none.
void put_failures(nlohmann::json& head, const CopyFailures& failures);
CopyFailures failures_from_json(const nlohmann::json& head);

}  // namespace ppdsm
