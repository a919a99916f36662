// A load: how a file gets into variables, all of it or nothing.
//
// Phase 1 proves everything: the file's size and header, every segment, every variable's dtype and
// shape, and, if asked, the content. Phase 2 writes and cannot fail. An error in phase 1 leaves
// every variable as it was. Only where what the variables hold is of no use to anyone
// (`contents_disposable`) are reading and looking at the content a part of phase 2, which may then
// fail. Whose variables they are and where threads come from is the caller's: std and POSIX only.
#ifndef YOLOTF_CSRC_LOAD_H_
#define YOLOTF_CSRC_LOAD_H_

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "error.h"
#include "mapped_file.h"
#include "plan.h"

namespace yolotf {

struct LoadRequest {
  std::string path;
  std::string header;                // the bytes the file must begin with: those of the plan
  std::int64_t expected_bytes = -1;  // the file's size; negative if any will do that the plan fits
  std::vector<Segment> segments;
  bool cast = false;                 // float16 and bfloat16 variables are allowed
  bool verify = true;                // look at the content
  bool contents_disposable = false;  // variables may be left half written
};

// One of both is not kOk; or neither, if it was the Variables that refused.
struct LoadError {
  Error error;
  FileError file;
};

struct LoadStats {
  bool mapped = false;  // else a private copy was read
  int threads = 1;
  std::int64_t checking_ns = 0;
  std::int64_t writing_ns = 0;
};

// What a load reports, in this order where it is a row of numbers.
constexpr std::array<const char*, 14> kResultFields = {
    "code", "file_code", "system_error", "segment", "axis",    "role",        "offset",
    "end",  "expected",  "found",        "mapped",  "threads", "checking_ns", "writing_ns"};

// The variables of a load, one a segment. Called in this order, each once, on the load's thread.
class Variables {
 public:
  virtual ~Variables() = default;

  // Describes every variable, and gives it to this load alone until destruction.
  virtual bool lock(std::vector<Target>* targets, Error* error) = 0;

  // All checks have passed: fills in every target's data.
  virtual bool begin(std::vector<Target>* targets) = 0;

  // All is written.
  virtual void commit() = 0;
};

// Where threads come from. What is started may run late or never; it must not be waited for.
class Threads {
 public:
  virtual ~Threads() = default;

  // How many can be started beside the load's own.
  virtual int helpers() const = 0;
  virtual void start(std::function<void()> work) = 0;
};

bool load(const LoadRequest& request, Variables* variables, Threads* threads, LoadStats* stats,
          LoadError* error);

// Everything that is wrong with the content of a file, as phase 1 would find it; in the order of
// the file. False if the file cannot be read or does not hold the segments.
bool examine_content(const std::string& path, std::uint64_t header_bytes,
                     const std::vector<Segment>& segments, Threads* threads,
                     std::vector<Error>* errors, LoadError* error);

}  // namespace yolotf

#endif  // YOLOTF_CSRC_LOAD_H_
