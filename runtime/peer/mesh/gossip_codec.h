// Membership's and trust's plain structs as messages of the wire, and back.
#pragma once

#include "dsm/wire/frame.h"
#include "runtime/core/membership.h"
#include "runtime/peer/mesh/trust.h"

namespace ppdsm {

Bytes encode_gossip(const GossipMessage& message);
Result<GossipMessage> decode_gossip(ByteView bytes);
Bytes encode_hello(const Member& self);
/// `peer`: who said it, as TLS knows.
Result<Member> decode_hello(const PeerId& peer, ByteView bytes);
Bytes encode_trust(const std::vector<TrustEntry>& entries);
Result<std::vector<TrustEntry>> decode_trust(ByteView bytes);

Bytes bytes_of(const PeerId& id);
Result<PeerId> peer_id_from(ByteView bytes);

}  // namespace ppdsm
