// Loads a file into variables, completely or not at all.
//
// A load first checks the file's size and header, every segment, and every variable's dtype and
// shape. Then it reads, checks and writes the numbers in one pass, so that each byte is fetched
// from memory once. That pass can fail until its last byte; therefore it writes into other memory,
// which commit() turns into the variables' values. The caller provides the variables, their memory
// and the threads; this file uses only the standard library and POSIX.
#ifndef YOLOTF_CSRC_WEIGHTS_LOAD_H_
#define YOLOTF_CSRC_WEIGHTS_LOAD_H_

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "weights/error.h"
#include "weights/mapped_file.h"
#include "weights/plan.h"

namespace yolotf {

struct LoadRequest {
  std::string path;
  std::string header;                // the bytes that the file must begin with
  std::int64_t expected_bytes = -1;  // the file's size; negative: any size the plan fits in
  std::vector<Segment> segments;
  bool cast = false;   // allow float16 and bfloat16 variables
  bool verify = true;  // check the numbers for damage
};

// At most one code is not kOk. Both are kOk after a failure of `Variables`.
struct LoadError {
  Error error;
  FileError file;
};

struct LoadStats {
  bool mapped = false;  // false: the file was copied into private memory
  int threads = 1;
  std::int64_t checking_ns = 0;
  std::int64_t writing_ns = 0;
};

// Names of the fields of LoadError and LoadStats, in the order in which the TensorFlow op returns
// them as one vector.
constexpr std::array<const char*, 14> kResultFields = {
    "code", "file_code", "system_error", "segment", "axis",    "role",        "offset",
    "end",  "expected",  "found",        "mapped",  "threads", "checking_ns", "writing_ns"};

// The variables of a load, one per segment. A load calls lock, begin, lock and commit on its own
// thread, in this order, and nothing after a method that returned false.
class Variables {
 public:
  virtual ~Variables() = default;

  // Appends a description of every variable to *targets, without data, and locks the variables
  // until begin() or commit().
  virtual bool lock(std::vector<Target>* targets, Error* error) = 0;

  // Called after the first checks: sets the data of every target to the memory to write into. That
  // may be the variables' own memory if their values are not needed; they then stay locked.
  virtual bool begin(std::vector<Target>* targets) = 0;

  // Called when all numbers are written and checked: makes them the variables' values.
  virtual void commit() = 0;
};

// A source of threads. Work that was started may run late or never: a load does not wait for it.
class Threads {
 public:
  virtual ~Threads() = default;

  // How many threads may help the load's own.
  virtual int max_helpers() const = 0;
  virtual void start(std::function<void()> work) = 0;
};

// Returns false after a failure, which *error describes unless a method of `variables` failed.
bool load(const LoadRequest& request, Variables* variables, Threads* threads, LoadStats* stats,
          LoadError* error);

// Sets *errors to all damage that a load with `verify` looks for, in file order. Returns false if
// the file cannot be read or is too short for the segments.
bool examine_content(const std::string& path, std::uint64_t header_bytes,
                     const std::vector<Segment>& segments, Threads* threads,
                     std::vector<Error>* errors, LoadError* error);

}  // namespace yolotf

#endif  // YOLOTF_CSRC_WEIGHTS_LOAD_H_
