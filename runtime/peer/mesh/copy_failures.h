// Why peers that were to keep something of a program have it not.
#pragma once

#include <string>
#include <vector>

#include "dsm/base/peer_id.h"
#include "dsm/base/result.h"

namespace ppdsm {

struct CopyFailures {
    std::string text;  ///< For people; empty: all have it.
    /// For lack of something of their own, as room on their disks: soon to be asked again they
    /// would fail again. A link that broke is not among these.
    std::vector<PeerId> unable;

    void add(const PeerId& peer, const std::string& name, const Error& why) {
        text += name + ": " + why.message() + "; ";
        if (why.code() == Code::kIo || why.code() == Code::kOverloaded) unable.push_back(peer);
    }
    void add(const CopyFailures& others) {
        text += others.text;
        unable.insert(unable.end(), others.unable.begin(), others.unable.end());
    }
};

}  // namespace ppdsm
