#include "weights/load.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <utility>

#include "weights/damage.h"
#include "weights/scatter.h"

namespace yolotf {
namespace {

constexpr std::uint64_t kPartBytes = 1 << 20;  // read and scanned together
constexpr std::uint64_t kReadAhead = 8 << 20;  // read at once while tasks wait for it

using Clock = std::chrono::steady_clock;

std::int64_t nanoseconds_since(Clock::time_point start) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count();
}

// Runs tasks on threads and, in finish(), on the caller. It waits for tasks, not for threads: if
// these are busy elsewhere, the caller runs all tasks.
class TaskGroup {
 public:
  TaskGroup(Threads* threads, std::function<void(std::size_t)> run_task)
      : threads_(threads), state_(std::make_shared<State>(std::move(run_task))) {}
  ~TaskGroup() { wait(); }
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;

  // Lets tasks below `ready` run; `ready` never decreases.
  void publish(std::size_t ready) { start_helpers(ready - published_, ready); }

  // Runs all tasks and returns the number of threads that may have taken part.
  int run(std::size_t tasks) {
    start_helpers(tasks - std::min<std::size_t>(tasks, 1), tasks);
    return finish();
  }

  // Waits until all published tasks are done and returns the number of threads that may have taken
  // part. Rethrows an exception of a task.
  int finish() {
    wait();
    if (state_->failure) {
      std::rethrow_exception(state_->failure);
    }
    return helpers_ + 1;
  }

 private:
  void wait() noexcept {
    state_->work();
    std::unique_lock<std::mutex> lock(state_->mutex);
    state_->changed.wait(lock, [this] { return state_->done == state_->ready; });
  }

  void start_helpers(std::size_t most, std::size_t ready) {
    int helpers = 0;
    {
      const std::lock_guard<std::mutex> lock(state_->mutex);
      state_->ready = ready;
      // Running helpers pick up new tasks.
      const int idle = std::max(0, threads_->helpers() - state_->helpers);
      helpers = static_cast<int>(std::min(static_cast<std::size_t>(idle), most));
      state_->helpers += helpers;
      helpers_ = std::max(helpers_, state_->helpers);
    }
    published_ = ready;
    try {
      for (int i = 0; i < helpers; ++i) {
        threads_->start([state = state_] { state->help(); });
      }
    } catch (const std::bad_alloc&) {  // works without more helpers
    }
  }

  // Shared, so that helpers that start late find it alive, without tasks.
  struct State {
    explicit State(std::function<void(std::size_t)> task) : run_task(std::move(task)) {}
    void work() {
      std::unique_lock<std::mutex> lock(mutex);
      work(&lock);
    }
    void help() {
      std::unique_lock<std::mutex> lock(mutex);
      work(&lock);
      --helpers;
    }
    void work(std::unique_lock<std::mutex>* lock) {
      while (next < ready) {
        const std::size_t task = next++;
        lock->unlock();
        std::exception_ptr thrown;
        try {
          run_task(task);
        } catch (...) {  // bad_alloc: exceptions must not escape a thread
          thrown = std::current_exception();
        }
        lock->lock();
        if (thrown) {
          failure = thrown;
        }
        ++done;
      }
      changed.notify_all();
    }
    const std::function<void(std::size_t)> run_task;
    std::mutex mutex;
    std::condition_variable changed;
    std::exception_ptr failure;
    std::size_t ready = 0;
    std::size_t next = 0;
    std::size_t done = 0;
    int helpers = 0;  // started and not finished
  };

  Threads* threads_;
  std::shared_ptr<State> state_;
  std::size_t published_ = 0;
  int helpers_ = 0;
};

// What the threads of a load have noted.
class ScanResults {
 public:
  void scan(const std::byte* bytes, std::uint64_t begin, std::uint64_t end) {
    ScanResult seen;
    scan_for_damage(bytes, begin, end, &seen);
    const std::lock_guard<std::mutex> lock(mutex_);
    all_.push_back(std::move(seen));
  }

  const std::vector<ScanResult>& all() const { return all_; }

 private:
  std::mutex mutex_;
  std::vector<ScanResult> all_;
};

// Reads the whole file and scans the parts that belong to arrays.
class FileReader {
 public:
  FileReader(MappedFile* file, const std::vector<Array>& arrays) : file_(file) {
    std::uint64_t done = 0;  // end of the last part
    const auto cut = [&](std::uint64_t begin, std::uint64_t end, bool scanned) {
      for (; begin < end; begin += kPartBytes) {
        parts_.push_back({begin, std::min(end, begin + kPartBytes), scanned});
      }
    };
    for (std::size_t i = 0; i < arrays.size();) {
      const std::uint64_t begin = arrays[i].offset;
      std::uint64_t end = arrays[i].end();
      for (++i; i < arrays.size() && arrays[i].offset == end; ++i) {
        end = arrays[i].end();
      }
      cut(done, begin, false);
      cut(begin, end, true);
      done = end;
    }
    cut(done, file->size(), false);
  }

  // Returns false if the file could not be read.
  bool run(Threads* threads, ScanResults* results, FileError* error) {
    std::mutex mutex;
    bool sound = true;
    TaskGroup group(threads, [&](std::size_t i) {
      const Part& part = parts_[i];
      FileError failed;
      if (!file_->read_in(part.begin, part.end, &failed)) {
        const std::lock_guard<std::mutex> lock(mutex);
        sound = false;
        *error = failed;
      } else if (part.scanned) {
        results->scan(file_->bytes(), part.begin, part.end);
      }
    });
    group.run(parts_.size());
    return sound;
  }

 private:
  struct Part {
    std::uint64_t begin;
    std::uint64_t end;
    bool scanned;
  };
  MappedFile* file_;
  std::vector<Part> parts_;
};

class Load {
 public:
  Load(const LoadRequest& request, Variables* variables, Threads* threads, LoadStats* stats,
       LoadError* error)
      : request_(request),
        segments_(request.segments),
        variables_(variables),
        threads_(threads),
        stats_(stats),
        error_(error) {}

  bool run() {
    const auto start = Clock::now();
    // The size first: nothing is read of a file of the wrong size.
    if (!file_.open(request_.path.c_str(), &error_->file) ||
        !check_segments(segments_, request_.header.size(), request_.expected_bytes, file_.size(),
                        &error_->error) ||
        !file_.begin(&error_->file) ||
        !file_.begins_with(request_.header.data(), request_.header.size(), &error_->file) ||
        !lock_variables(&targets_) || !variables_->begin(&targets_)) {
      return false;
    }
    stats_->checking_ns = nanoseconds_since(start);
    // Locked again: another thread may have given a variable another shape.
    std::vector<Target> now;
    if (!write() || !is_sound() || !lock_variables(&now)) {
      return false;
    }
    variables_->commit();
    stats_->mapped = file_.mapped();
    stats_->writing_ns = nanoseconds_since(start) - stats_->checking_ns;
    return true;
  }

 private:
  bool lock_variables(std::vector<Target>* targets) {
    if (!variables_->lock(targets, &error_->error)) {
      return false;
    }
    for (std::size_t i = 0; i < segments_.size(); ++i) {
      if (!check_target(segments_[i], static_cast<std::int64_t>(i), (*targets)[i], request_.cast,
                        &error_->error)) {
        return false;
      }
    }
    return true;
  }

  // Reads the file from the first byte needed and publishes tasks as their bytes arrive. Each task
  // scans its bytes before it moves them, so that they are fetched from memory once.
  bool write() {
    std::vector<Task> tasks = split(segments_);
    const auto end_of_task = [&](const Task& task) { return end_of(segments_[task.segment]); };
    std::stable_sort(tasks.begin(), tasks.end(),
                     [&](const Task& a, const Task& b) { return end_of_task(a) < end_of_task(b); });
    TaskGroup group(threads_, [&](std::size_t i) {
      const Task& task = tasks[i];
      if (request_.verify) {
        const Extent source = source_of(segments_[task.segment], task);
        results_.scan(file_.bytes(), source.begin, source.end);
      }
      scatter(file_.bytes(), segments_[task.segment], targets_[task.segment], task);
    });
    std::uint64_t read = file_.size();
    for (const Segment& segment : segments_) {
      read = std::min(read, segment.offset);
      read = segment.norm_offset == 0 ? read : std::min(read, segment.norm_offset);
    }
    std::size_t ready = 0;
    bool sound = true;
    while (sound && ready < tasks.size()) {
      const std::uint64_t end = std::min(file_.size(), read + kReadAhead);
      sound = file_.read_in(read, end, &error_->file);
      read = end;
      while (sound && ready < tasks.size() && end_of_task(tasks[ready]) <= read) {
        ++ready;
      }
      if (sound) {
        group.publish(ready);
      }
    }
    if (sound && request_.verify) {
      look_at_norms();
    }
    stats_->threads = std::min(group.finish(), static_cast<int>(tasks.size()));
    return sound;
  }

  // Whether what was written is what the file holds, and undamaged.
  bool is_sound() {
    std::vector<Error> errors;
    if (request_.verify) {
      errors = find_damage(file_.bytes(), file_.size(), arrays_of(segments_), results_.all());
    }
    if (!file_.check_intact(&error_->file)) {
      return false;  // whatever the content says: it is not the file's
    }
    if (!errors.empty()) {
      error_->error = errors.front();
    }
    return errors.empty();
  }

  // Folded batch normalization arrays are not the source of any task.
  void look_at_norms() {
    std::uint64_t last = 0;
    for (const Segment& segment : segments_) {
      if (segment.norm_offset != 0 && segment.norm_offset != last) {
        last = segment.norm_offset;
        results_.scan(file_.bytes(), last,
                      last + kNormArrays * kFloatBytes * segment.all_filters());
      }
    }
  }

  const LoadRequest& request_;
  const std::vector<Segment>& segments_;
  Variables* variables_;
  Threads* threads_;
  LoadStats* stats_;
  LoadError* error_;
  MappedFile file_;
  ScanResults results_;
  std::vector<Target> targets_;
};

bool examine(const std::string& path, std::uint64_t header_bytes,
             const std::vector<Segment>& segments, Threads* threads, std::vector<Error>* errors,
             LoadError* error) {
  MappedFile file;
  if (!file.open(path.c_str(), &error->file) ||
      !check_segments(segments, header_bytes, -1, file.size(), &error->error) ||
      !file.begin(&error->file)) {
    return false;
  }
  const std::vector<Array> arrays = arrays_of(segments);
  ScanResults results;
  if (!FileReader(&file, arrays).run(threads, &results, &error->file)) {
    return false;
  }
  *errors = find_damage(file.bytes(), file.size(), arrays, results.all());
  return file.check_intact(&error->file);
}

// Returns the result of `function`; reports lack of memory as an error of the file, as read(2)
// would.
template <typename Function>
bool catching_bad_alloc(LoadError* error, const Function& function) {
  try {
    return function();
  } catch (const std::bad_alloc&) {
    error->file = {FileCode::kSystem, ENOMEM};
    return false;
  }
}

}  // namespace

bool load(const LoadRequest& request, Variables* variables, Threads* threads, LoadStats* stats,
          LoadError* error) {
  return catching_bad_alloc(error,
                            [&] { return Load(request, variables, threads, stats, error).run(); });
}

bool examine_content(const std::string& path, std::uint64_t header_bytes,
                     const std::vector<Segment>& segments, Threads* threads,
                     std::vector<Error>* errors, LoadError* error) {
  return catching_bad_alloc(
      error, [&] { return examine(path, header_bytes, segments, threads, errors, error); });
}

}  // namespace yolotf
