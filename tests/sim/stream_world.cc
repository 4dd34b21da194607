#include "tests/sim/stream_world.h"

#include <cstring>
#include <utility>

#include "dsm/core/rings/seal.h"

namespace ppdsm::sim {

using namespace rings;

namespace {

constexpr std::uint16_t kMessageKind = 1;
constexpr std::size_t kWindowBytes = 1000;
constexpr std::size_t kMostHeldBytes = 2000;

/// A message says its number, and has a size of its own.
Bytes message_of(std::uint64_t number) {
    Bytes message(8 + number * 7919 % 300, static_cast<std::uint8_t>(number));
    std::memcpy(message.data(), &number, 8);
    return message;
}

std::uint64_t number_of(const Bytes& message) {
    std::uint64_t number = 0;
    if (message.size() >= 8) std::memcpy(&number, message.data(), 8);
    return message == message_of(number) ? number : 0;
}

}  // namespace

StreamWorld::StreamWorld(std::uint64_t seed, std::uint64_t messages)
    : random_(SeededRandom::mix(seed)),
      messages_(messages),
      sender_(kWindowBytes),
      receiver_(kMostHeldBytes),
      snapshot_{sender_, receiver_} {}

void StreamWorld::step(bool with_faults) {
    const std::uint64_t choice = random_.below(with_faults ? 100 : 90);
    if (choice < 30) return sender_step();
    if (choice < 55) return receiver_step();
    if (choice < 80) return relay_step();
    if (choice < 90) return move_step();
    fault_step();
}

bool StreamWorld::is_complete() const { return receiver_.numbers.size() == messages_; }

void StreamWorld::sender_step() {
    if (sender_.is_frozen) return;
    if (sender_.putting) {
        RingMemory& memory = *sender_.rings.at(sender_.core.position().epoch);
        RingWriter writer;
        RingCode code = writer.attach(&memory, kRingBytes);
        if (code == RingCode::kDone) {
            code = writer.try_write(kMessageKind, sender_.putting->data(),
                                    static_cast<std::uint32_t>(sender_.putting->size()));
        }
        if (code == RingCode::kFull) return;
        sender_.putting.reset();
        if (code == RingCode::kDone) {
            ++counts_.by_ring;
            do_effects(sender_.core.step(sender::PutDone{}));
        } else if (code == RingCode::kSealed) {
            sender_.rings.erase(sender_.core.position().epoch);
            do_effects(sender_.core.step(sender::PutSealed{writer.next_epoch()}));
        } else {
            complain("the writer finds its ring damaged");
        }
        return;
    }
    if (sender_.next_number <= messages_ && sender_.core.can_submit()) {
        do_effects(sender_.core.step(sender::Submit{message_of(sender_.next_number++)}));
    }
}

void StreamWorld::receiver_step() {
    if (receiver_.is_frozen || !receiver_.reads_ring) return;
    RingMemory& memory = *receiver_.rings.at(*receiver_.reads_ring);
    RingReader reader;
    Frame frame;
    RingCode code = reader.attach(&memory, kRingBytes);
    if (code == RingCode::kDone) code = reader.try_peek(frame);
    if (code == RingCode::kDone) {
        Bytes message(frame.size_bytes);
        frame.copy_to(message.data());
        do_effects(receiver_.core.step(receiver::RingMessage{frame.sequence, std::move(message)}));
        reader.take();
    } else if (code == RingCode::kSealed) {
        receiver_.rings.erase(*std::exchange(receiver_.reads_ring, std::nullopt));
        do_effects(receiver_.core.step(
            receiver::RingSealed{{reader.next_epoch(), reader.next_sequence()}}));
    } else if (code != RingCode::kEmpty) {
        complain("the reader finds its ring damaged");
    }
}

void StreamWorld::relay_step() {
    const bool may_offer = !move_ && sender_.peer == receiver_.peer;
    if (may_offer && random_.below(10) == 0) {
        return do_effects(sender_.core.step(sender::OfferRing{}));
    }
    if (!is_linked_) {
        if (sender_.is_frozen || receiver_.is_frozen) return;
        is_linked_ = true;
        return do_effects(sender_.core.step(sender::Reconnected{}));
    }
    if (random_.below(2) == 0) {
        if (receiver_.is_frozen || to_receiver_.empty()) return;
        RelayFrame frame = std::move(to_receiver_.front());
        to_receiver_.pop_front();
        do_effects(receiver_.core.step(receiver::Relayed{std::move(frame)}));
    } else if (!sender_.is_frozen && !to_sender_.empty()) {
        const StreamPosition position = to_sender_.front();
        to_sender_.pop_front();
        do_effects(sender_.core.step(sender::Acknowledged{position}));
    }
}

void StreamWorld::do_effects(StreamSender::Effects effects) {
    for (sender::Effect& effect : effects) {
        if (auto* put = std::get_if<sender::Put>(&effect)) {
            sender_.putting = std::move(put->message);
        } else if (auto* relay = std::get_if<sender::Relay>(&effect)) {
            ++counts_.by_relay;
            if (is_linked_) to_receiver_.push_back(std::move(relay->frame));
        } else {
            open_ring(std::get<sender::OpenRing>(effect).begin);
        }
    }
}

void StreamWorld::open_ring(const StreamPosition& begin) {
    const auto memory = std::make_shared<RingMemory>();
    format_ring(memory.get(), kMinCapacityBytes, begin.epoch, begin.next_sequence);
    sender_.rings[begin.epoch] = memory;
    receiver_.rings[begin.epoch] = memory;
}

void StreamWorld::do_effects(StreamReceiver::Effects effects) {
    for (receiver::Effect& effect : effects) {
        if (auto* deliver = std::get_if<receiver::Deliver>(&effect)) {
            const std::uint64_t number = number_of(deliver->message);
            if (number != receiver_.numbers.size() + 1 || number != deliver->sequence) {
                complain("got " + std::to_string(number) + " as message " +
                         std::to_string(deliver->sequence));
            }
            receiver_.numbers.push_back(number);
        } else if (auto* acknowledge = std::get_if<receiver::Acknowledge>(&effect)) {
            if (is_linked_) to_sender_.push_back(acknowledge->position);
        } else if (auto* open = std::get_if<receiver::OpenRing>(&effect)) {
            receiver_.reads_ring = open->epoch;
            if (!receiver_.rings.contains(open->epoch)) complain("there is no such ring");
        } else {
            complain("the receiver breaks off: " + std::get<receiver::Broken>(effect).why);
        }
    }
}

void StreamWorld::break_link() {
    is_linked_ = false;
    to_receiver_.clear();
    to_sender_.clear();
}

bool StreamWorld::seal(RingMemory& memory) {
    Seal seal;
    const auto* const control = reinterpret_cast<const RingControl*>(memory.bytes.data());
    return seal_ring(&memory, kRingBytes, control->epoch + 1, seal) == RingCode::kDone;
}

StreamWorld::Rings& StreamWorld::moving_rings() {
    return move_->of_receiver ? receiver_.rings : sender_.rings;
}

void StreamWorld::begin_move() {
    if (move_) return;
    const bool of_receiver = random_.below(2) == 0;
    const Peer source = of_receiver ? receiver_.peer : sender_.peer;
    std::set<RingId> ids;
    for (const auto& [epoch, memory] : of_receiver ? receiver_.rings : sender_.rings) {
        ids.insert(RingId{epoch});
    }
    move_.emplace(std::move(ids));
    move_->of_receiver = of_receiver;
    move_->target = static_cast<Peer>((source + 1 + random_.below(kPeers - 1)) % kPeers);
    do_effects(move_->core.begin());
}

void StreamWorld::move_step() {
    if (!move_) return;
    if (move_->coming.empty()) return complain("a move has come to a stop");
    const move::Event event = move_->coming.front();
    move_->coming.pop_front();
    do_effects(move_->core.step(event));
}

void StreamWorld::do_effects(const RingMove::Effects& effects) {
    for (const move::Effect& effect : effects) {
        if (std::holds_alternative<move::Freeze>(effect)) {
            (move_->of_receiver ? receiver_.is_frozen : sender_.is_frozen) = true;
            move_->coming.emplace_back(move::Frozen{});
        } else if (const auto* one = std::get_if<move::SealRing>(&effect)) {
            // An end may have left a ring behind before it was frozen.
            const auto ring = moving_rings().find(static_cast<std::uint32_t>(one->ring));
            if (ring != moving_rings().end() && !seal(*ring->second)) complain("cannot seal");
            move_->coming.emplace_back(move::Sealed{one->ring});
        } else if (std::holds_alternative<move::Cut>(effect)) {
            move_->cut = copy_of(moving_rings());
            move_->coming.emplace_back(move::CutDone{});
        } else if (std::holds_alternative<move::Commit>(effect)) {
            move_->is_committed = random_.below(4) != 0;
            if (move_->is_committed) {
                move_->coming.emplace_back(move::Committed{});
            } else {
                move_->coming.emplace_back(move::Refused{});
            }
        } else {
            return resume(std::get<move::Resume>(effect).at);
        }
    }
}

void StreamWorld::resume(Place at) {
    ++(at == Place::kTarget ? counts_.moves : counts_.failed_moves);
    if (at == Place::kTarget) {
        moving_rings() = std::move(move_->cut);
        (move_->of_receiver ? receiver_.peer : sender_.peer) = move_->target;
        break_link();
    }
    (move_->of_receiver ? receiver_.is_frozen : sender_.is_frozen) = false;
    move_.reset();
}

/// The frozen thread stays as it is, and a successor asks the log.
void StreamWorld::kill_mover() {
    if (!move_) return;
    ++counts_.mover_deaths;
    const bool was_frozen = move_->of_receiver ? receiver_.is_frozen : sender_.is_frozen;
    if (!was_frozen) return move_.reset();
    resume(RingMove::resume_after_death(move_->is_committed).at);
}

StreamWorld::Rings StreamWorld::copy_of(const Rings& rings) {
    Rings copies;
    for (const auto& [epoch, memory] : rings) copies[epoch] = std::make_shared<RingMemory>(*memory);
    return copies;
}

/// Memory that both ends share is one memory in the copy.
StreamWorld::Image StreamWorld::copy_of(const Image& image) {
    Image copy = image;
    copy.sender.rings = copy_of(image.sender.rings);
    copy.receiver.rings = copy_of(image.receiver.rings);
    for (const auto& [epoch, memory] : image.receiver.rings) {
        const auto other = image.sender.rings.find(epoch);
        if (other != image.sender.rings.end() && other->second == memory) {
            copy.receiver.rings[epoch] = copy.sender.rings[epoch];
        }
    }
    return copy;
}

/// Both are frozen, so that the cut is one.
void StreamWorld::take_snapshot() {
    if (!move_) snapshot_ = copy_of({sender_, receiver_});
}

/// Somebody died: both go on from the snapshot, wherever there is room for them.
void StreamWorld::roll_back() {
    ++counts_.roll_backs;
    move_.reset();
    break_link();
    const Image image = copy_of(snapshot_);
    sender_ = image.sender;
    receiver_ = image.receiver;
    sender_.peer = static_cast<Peer>(random_.below(kPeers));
    receiver_.peer = static_cast<Peer>(random_.below(kPeers));
    if (sender_.peer == receiver_.peer) return;
    receiver_.rings = copy_of(receiver_.rings);  // They share nothing any more.
    for (const Rings& rings : {sender_.rings, receiver_.rings}) {
        for (const auto& [epoch, memory] : rings) {
            if (!seal(*memory)) complain("cannot seal an image's ring");
        }
    }
}

void StreamWorld::fault_step() {
    switch (random_.below(8)) {
        case 0:
        case 1:
        case 2: return begin_move();
        case 3: ++counts_.broken_links; return break_link();
        case 4: return random_.below(3) == 0 ? roll_back() : take_snapshot();
        case 5: return random_.below(2) == 0 ? kill_mover() : take_snapshot();
        case 6:
            // The target died, or the image could not be made.
            if (move_ && random_.below(4) == 0) do_effects(move_->core.step(move::Failed{}));
            return;
        default: return take_snapshot();
    }
}

void StreamWorld::complain(const std::string& what) {
    if (wrong_.empty()) wrong_ = what + "; " + describe();
}

std::string StreamWorld::describe() const {
    const auto position = [](const StreamPosition& at) {
        return std::to_string(at.epoch) + ":" + std::to_string(at.next_sequence);
    };
    return "sender at " + position(sender_.core.position()) +
           (sender_.core.is_on_ring() ? " on a ring" : "") + ", receiver at " +
           position(receiver_.core.position()) + (receiver_.core.is_on_ring() ? " on a ring" : "") +
           " with " + std::to_string(receiver_.numbers.size()) + " of " + std::to_string(messages_);
}

}  // namespace ppdsm::sim
