#include "tune/plan.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

namespace nf4bench {
namespace {

constexpr size_t kM = 0;              // axis
constexpr double kNotMeasured = 4.6;  // a loss for what was not tried on a problem, or cannot run: a hundredfold

// Problems that are to be divided into boxes, and what each choice loses on each of them.
struct Field {
  struct Point {
    size_t problem;  // its index among those measured
    std::array<int64_t, 3> at;
    std::vector<double> loss;  // of each choice: log of its time over the best one
  };
  std::vector<Choice> choices;
  std::vector<Point> points;

  // Those of `problems` on which a trial counts, by the trials that do.
  Field(const std::vector<Measured>& measured, const std::vector<size_t>& problems, const Filter& counts) {
    std::set<Choice> all;
    for (const size_t i : problems) {
      for (const Trial& trial : measured[i].trials) {
        if (counts(trial)) all.insert(trial.choice);
      }
    }
    choices.assign(all.begin(), all.end());
    for (const size_t i : problems) {
      Point point{i, place(measured[i].problem), std::vector<double>(choices.size(), kNotMeasured)};
      double best = std::numeric_limits<double>::infinity();
      for (const Trial& trial : measured[i].trials) {
        if (counts(trial)) best = std::min(best, trial.microseconds);
      }
      for (const Trial& trial : measured[i].trials) {
        if (!counts(trial)) continue;
        const auto choice = std::lower_bound(choices.begin(), choices.end(), trial.choice) - choices.begin();
        point.loss[static_cast<size_t>(choice)] = std::log(trial.microseconds / best);
      }
      if (std::isfinite(best)) points.push_back(std::move(point));
    }
  }
};

// How a set of points becomes rows: one, of a choice, or those of the two sides of a cut.
struct Plan {
  size_t rows = 1;
  double loss = 0;  // summed over the points
  size_t choice = 0;
  bool cut = false;
  size_t axis = 0;
  int64_t last = 0;   // measured value of the lower side
  int64_t first = 0;  // of the upper side
};

// Finds the plan of fewest rows in which no choice loses more than `tolerance`; among those, the one that loses least.
// Where no further cut is possible, the tolerance gives way.
class Planner {
 public:
  using Points = std::vector<uint16_t>;  // indices of the field's points

  Planner(const Field& field, const Division& division) : field_(field), division_(division) {}

  Points all() const {
    Points out;
    for (size_t i = 0; i < field_.points.size(); ++i) out.push_back(static_cast<uint16_t>(i));
    return out;
  }

  const Plan& plan(const Points& points) {
    if (const auto known = plans_.find(points); known != plans_.end()) return known->second;
    auto [best, good] = single(points);
    for (size_t axis = 0; axis < division_.axes && !(good && !best.cut); ++axis) {
      const std::set<int64_t> values = values_on(axis, points);
      for (auto last = values.begin(); last != values.end() && std::next(last) != values.end(); ++last) {
        Plan cut{0, 0, 0, true, axis, *last, *std::next(last)};
        for (const bool upper : {false, true}) {
          const Plan& part = plan(side(points, cut, upper));
          cut.rows += part.rows;
          cut.loss += part.loss;
        }
        const bool better = std::pair(cut.rows, cut.loss) < std::pair(best.rows, best.loss);
        if (!good || better) best = cut;
        good = true;
      }
    }
    return plans_.emplace(points, best).first->second;
  }

  Points side(const Points& points, const Plan& cut, bool upper) const {
    Points out;
    for (const uint16_t i : points) {
      if ((field_.points[i].at[cut.axis] > cut.last) == upper) out.push_back(i);
    }
    return out;
  }

 private:
  // One row for all points, and whether that is within the tolerance.
  std::pair<Plan, bool> single(const Points& points) const {
    std::optional<std::pair<bool, double>> best;
    Plan plan;
    for (size_t choice = 0; choice < field_.choices.size(); ++choice) {
      double sum = 0;
      double worst = 0;
      for (const uint16_t i : points) {
        sum += field_.points[i].loss[choice];
        worst = std::max(worst, field_.points[i].loss[choice]);
      }
      const std::pair key(worst > division_.tolerance, sum);
      if (best && *best <= key) continue;
      best = key;
      plan.choice = choice;
      plan.loss = sum;
    }
    return {plan, !best->first};
  }

  std::set<int64_t> values_on(size_t axis, const Points& points) const {
    std::set<int64_t> out;
    for (const uint16_t i : points) out.insert(field_.points[i].at[axis]);
    return out;
  }

  const Field& field_;
  Division division_;
  std::map<Points, Plan> plans_;
};

int64_t boundary(const Plan& cut) {
  if (cut.axis == kM) return cut.last;
  return static_cast<int64_t>(std::sqrt(static_cast<double>(cut.last) * static_cast<double>(cut.first)));
}

void collect(const Field& field, Planner& planner, const Planner::Points& points, const Box& box,
             std::vector<Region>& out) {
  const Plan plan = planner.plan(points);
  if (!plan.cut) {
    Region region{box, field.choices[plan.choice], {}};
    for (const uint16_t i : points) region.problems.push_back(field.points[i].problem);
    out.push_back(std::move(region));
    return;
  }
  for (const bool upper : {false, true}) {
    Box part = box;
    (upper ? part[plan.axis].low : part[plan.axis].high) = boundary(plan) + int64_t{upper};
    collect(field, planner, planner.side(points, plan, upper), part, out);
  }
}

}  // namespace

std::vector<Region> divide(const std::vector<Measured>& measured, const std::vector<size_t>& problems, const Box& box,
                           const Division& division, const Filter& counts) {
  const Field field(measured, problems, counts);
  std::vector<Region> out;
  if (field.points.empty()) return out;
  Planner planner(field, division);
  collect(field, planner, planner.all(), box, out);
  return out;
}

}  // namespace nf4bench
