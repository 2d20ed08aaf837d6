// All that can happen in a ring of stages: copies that arrive in any order, producers and teams of warps that are as
// fast or slow as they like. With the parities that RingPlace gives, nobody reads a stage that is not there, or that is
// overwritten.
#include "device/ring.hpp"

#include <cstdint>
#include <deque>
#include <numeric>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "catch.hpp"

namespace nf4test {
namespace {

struct Ring {
  int length;
  int producers;  // take stages in turn
  int teams;      // take runs of stages in turn
  int run;        // stages
  int warps;      // of a team; each reads the whole stage
  int stages;
  int turns = length;  // barriers of each kind
};

// What can be seen of a ring at one moment.
struct Moment {
  struct Place {
    int stage = -1;       // that lies there, or is on its way
    bool arrived = true;  // it is there
    bool operator<(const Place& other) const { return std::tie(stage, arrived) < std::tie(other.stage, other.arrived); }
  };
  struct Hand {
    int stage = 0;  // the next, or the one that it is at
    nf4::RingPlace at;
    nf4::RingPlace turn;
    bool reading = false;

    void advance(const Ring& ring, int stages) {
      stage += stages;
      at.advance(ring.length, stages);
      turn.advance(ring.turns, stages);
    }
    bool operator<(const Hand& other) const {
      return std::tie(stage, at.slot, at.parity, turn.slot, turn.parity, reading) <
             std::tie(other.stage, other.at.slot, other.at.parity, other.turn.slot, other.turn.parity, other.reading);
    }
  };
  std::vector<Place> places;
  std::vector<int> full;   // phases that are over, of each barrier
  std::vector<int> empty;  // arrivals at each, of which a team's warps make a phase
  std::vector<Hand> producers;
  std::vector<Hand> warps;  // those of team 0 first
  bool operator<(const Moment& other) const {
    return std::tie(places, full, empty, producers, warps) <
           std::tie(other.places, other.full, other.empty, other.producers, other.warps);
  }
};

// A wait for the phase of this parity ends once the present phase, the number of those that are over, has the other
// one.
bool passes(int phases_over, uint32_t parity) { return (static_cast<uint32_t>(phases_over) & 1) != parity; }

Moment beginning(const Ring& ring) {
  Moment moment;
  moment.places.resize(static_cast<size_t>(ring.length));
  moment.full.resize(static_cast<size_t>(ring.turns));
  moment.empty.resize(static_cast<size_t>(ring.turns));
  for (int stage = 0; stage < ring.producers; ++stage) {
    Moment::Hand producer;
    producer.advance(ring, stage);
    moment.producers.push_back(producer);
  }
  for (int team = 0; team < ring.teams; ++team) {
    Moment::Hand warp;
    warp.advance(ring, team * ring.run);
    moment.warps.insert(moment.warps.end(), static_cast<size_t>(ring.warps), warp);
  }
  return moment;
}

// Calls go(next) with all that can happen next; the first thing that must not, or nothing.
template <class Go>
std::string each_next(const Ring& ring, const Moment& now, const Go& go) {
  const auto place_of = [](Moment& moment, const Moment::Hand& hand) -> Moment::Place& {
    return moment.places[static_cast<size_t>(hand.at.slot)];
  };
  // A producer asks for its next stage.
  for (size_t p = 0; p < now.producers.size(); ++p) {
    Moment next = now;
    Moment::Hand& producer = next.producers[p];
    if (producer.stage >= ring.stages) continue;
    Moment::Place& place = place_of(next, producer);
    const nf4::RingPlace before = nf4::turn_before(producer.turn, ring.length, ring.turns);
    if (!passes(next.empty[static_cast<size_t>(before.slot)] / ring.warps, before.parity)) continue;
    if (!place.arrived) return "a stage was asked for twice at once";
    place.stage = producer.stage;
    place.arrived = false;
    producer.advance(ring, ring.producers);
    go(next);
  }
  // One that is on its way arrives, in any order.
  for (size_t slot = 0; slot < now.places.size(); ++slot) {
    if (now.places[slot].arrived) continue;
    Moment next = now;
    next.places[slot].arrived = true;
    ++next.full[static_cast<size_t>(next.places[slot].stage % ring.turns)];
    go(next);
  }
  // A warp begins to read, or is done.
  for (size_t w = 0; w < now.warps.size(); ++w) {
    Moment next = now;
    Moment::Hand& warp = next.warps[w];
    if (warp.stage >= ring.stages) continue;
    Moment::Place& place = place_of(next, warp);
    if (!warp.reading && !passes(next.full[static_cast<size_t>(warp.turn.slot)], warp.turn.parity)) continue;
    if (place.stage != warp.stage || !place.arrived)
      return "stage " + std::to_string(warp.stage) + " was read where stage " + std::to_string(place.stage) +
             (place.arrived ? " lay" : " was to come");
    if (warp.reading) {
      ++next.empty[static_cast<size_t>(warp.turn.slot)];
      warp.advance(ring, 1);
      if (warp.stage % ring.run == 0) warp.advance(ring, (ring.teams - 1) * ring.run);  // then others' runs follow
    }
    warp.reading = !warp.reading;
    go(next);
  }
  return {};
}

// Goes through everything that can happen. The first thing that must not, or nothing.
std::string explore(const Ring& ring) {
  std::set<Moment> seen{beginning(ring)};
  std::deque<Moment> left(seen.begin(), seen.end());
  while (!left.empty()) {
    const Moment now = left.front();
    left.pop_front();
    int ways = 0;
    const std::string wrong = each_next(ring, now, [&](const Moment& next) {
      ++ways;
      if (seen.insert(next).second) left.push_back(next);
    });
    if (!wrong.empty()) return wrong;
    bool done = true;
    for (const Moment::Hand& producer : now.producers) done = done && producer.stage >= ring.stages;
    for (const Moment::Hand& warp : now.warps) done = done && warp.stage >= ring.stages;
    if (ways == 0 && !done) return "nobody can go on";
  }
  return {};
}

}  // namespace

TEST_CASE("ring: whole rounds, whatever happens") {
  // The first places are filled three times, where phases of one parity meet.
  for (const Ring ring :
       {Ring{1, 1, 1, 1, 2, 4}, Ring{2, 1, 1, 1, 3, 6}, Ring{3, 1, 1, 1, 3, 8}, Ring{2, 1, 2, 1, 3, 6},
        Ring{4, 1, 2, 1, 2, 10}, Ring{6, 1, 2, 1, 2, 14}, Ring{3, 1, 3, 1, 2, 9}, Ring{6, 1, 3, 1, 1, 15},
        Ring{8, 1, 4, 1, 1, 20},
        // as gemm.pair_wgmma has them
        Ring{2, 2, 1, 2, 2, 6}, Ring{4, 4, 1, 2, 1, 10}, Ring{4, 4, 2, 2, 1, 12}, Ring{4, 2, 2, 2, 2, 12}}) {
    INFO("a ring of " << ring.length << ", " << ring.producers << " producers, " << ring.teams << " teams of "
                      << ring.warps << " with " << ring.run << " stages at a time");
    REQUIRE(nf4::whole_rounds(ring.length, std::lcm(ring.producers, ring.teams * ring.run)) == ring.length);
    CHECK(explore(ring) == "");
  }
}

TEST_CASE("ring: a barrier for each taker of a place, whatever happens") {
  // As gemm.pair_stream has them. Their first barriers see two phases or three.
  for (Ring ring : {Ring{3, 1, 2, 1, 2, 13}, Ring{5, 1, 2, 1, 1, 21}, Ring{7, 1, 2, 1, 1, 16}, Ring{4, 1, 3, 1, 1, 14},
                    Ring{5, 1, 3, 1, 1, 17}, Ring{5, 1, 4, 1, 1, 22}, Ring{6, 1, 4, 1, 1, 14}, Ring{3, 2, 1, 1, 2, 13},
                    Ring{5, 2, 1, 1, 1, 22}, Ring{3, 2, 2, 1, 1, 13}, Ring{4, 2, 1, 1, 2, 14}, Ring{5, 2, 2, 1, 1, 21},
                    Ring{5, 2, 4, 1, 1, 22}, Ring{2, 2, 1, 1, 2, 8}, Ring{6, 2, 4, 1, 1, 26}, Ring{7, 2, 1, 1, 1, 30},
                    Ring{7, 2, 2, 1, 1, 30}, Ring{7, 2, 4, 1, 1, 30}}) {
    ring.turns = nf4::ring_turns(ring.length, std::lcm(ring.teams, ring.producers));
    INFO("a ring of " << ring.length << ", " << ring.producers << " producers, " << ring.teams << " teams of "
                      << ring.warps << ", " << ring.turns << " barriers");
    CHECK(explore(ring) == "");
  }
}

TEST_CASE("ring: where a barrier changes hands, a stage is read that is not there, or overwritten") {
  CHECK(explore({3, 1, 2, 1, 1, 7}) != "");
  CHECK(explore({4, 1, 3, 1, 1, 9}) != "");
  CHECK(explore({5, 1, 2, 1, 1, 11}) != "");
  CHECK(explore({4, 3, 2, 1, 1, 13}) != "");  // the teams' places are their own, the producers' are not
  CHECK(explore({6, 4, 2, 2, 1, 19}) != "");
}

TEST_CASE("ring: the longest of whole rounds") {
  CHECK(nf4::whole_rounds(5, 2) == 4);
  CHECK(nf4::whole_rounds(6, 3) == 6);
  CHECK(nf4::whole_rounds(3, 4) == 0);
  CHECK(nf4::whole_rounds(7, 1) == 7);
}

}  // namespace nf4test
