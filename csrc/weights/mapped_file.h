// Reads a file such that no other process can change its bytes meanwhile.
//
// A mapping alone is not safe: another process may write or truncate the file. So a mapping is used
// only under a read lease (Linux, fcntl F_SETLEASE): the kernel then blocks a process that opens
// the file for writing or truncates it until the load, a few milliseconds, is over. If no lease is
// available (the file is open for writing, belongs to another user, or the file system or kernel
// has no leases), the bytes are read into private memory instead, and the file's status is compared
// before and after.
//
// The kernel waits for a lease 45 seconds by default, then takes it away: a load may take that long
// if its process is stopped, or its disk hangs. Pages may then be lost (see lost_pages.h), or be
// another file's. Therefore check_intact() comes after the last use of bytes(), before anything
// relies on them.
#ifndef YOLOTF_CSRC_WEIGHTS_MAPPED_FILE_H_
#define YOLOTF_CSRC_WEIGHTS_MAPPED_FILE_H_

#include <time.h>

#include <cstddef>
#include <cstdint>

#include "weights/lost_pages.h"

namespace yolotf {

enum class FileCode {
  kOk = 0,
  kSystem,      // system_error: errno
  kNotRegular,  // a directory, a FIFO, a device
  kChanged,     // another process changed the file while it was read
};

struct FileError {
  FileCode code = FileCode::kOk;
  int system_error = 0;
};

class MappedFile {
 public:
  MappedFile() = default;
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  // Opens a regular file for reading; never blocks on a FIFO.
  bool open(const char* path, FileError* error) noexcept;

  std::uint64_t size() const noexcept { return size_; }

  // Reads up to `size` bytes at `offset`; *read is less only at the end of the file. Works without
  // hold().
  bool read(std::uint64_t offset, std::uint64_t size, std::byte* bytes, std::uint64_t* read,
            FileError* error) const noexcept;

  // Makes bytes() valid: maps the file under a lease and reads all pages, or makes a copy.
  bool hold(FileError* error) noexcept;

  // Like hold(), but does not read a mapping: bytes are valid after read_in().
  bool begin(FileError* error) noexcept;

  // Reads in bytes `begin` to `end`; does nothing for a copy.
  bool read_in(std::uint64_t begin, std::uint64_t end, FileError* error) noexcept;

  // Whether the file begins with these bytes; kChanged if not: it was replaced.
  bool begins_with(const void* bytes, std::uint64_t size, FileError* error) const noexcept;

  // The whole file; page-aligned. Null before hold() or begin(), and for an empty file.
  const std::byte* bytes() const noexcept { return bytes_; }

  // True if bytes() is the page cache itself, false if it is a private copy.
  bool mapped() const noexcept { return mapped_; }

  // False if the file has changed since it was opened, judging by its status.
  bool unchanged() const noexcept;

  // Whether all bytes read from bytes() so far were those of the file that was opened.
  bool check_intact(FileError* error) const noexcept;

 private:
  // Many file systems update time stamps every few milliseconds: a change within the same tick as
  // the file's last one would go unnoticed.
  void wait_for_tick() const noexcept;
  bool lease() noexcept;
  bool acquire(std::uint64_t read_in_bytes, FileError* error) noexcept;
  bool map(std::uint64_t read_in_bytes) noexcept;
  bool copy(FileError* error) noexcept;

  int descriptor_ = -1;
  std::uint64_t size_ = 0;
  timespec modified_ = {};
  std::byte* bytes_ = nullptr;
  PageGuard guard_;  // of a mapping
  bool leased_ = false;
  bool mapped_ = false;
};

// Requests huge pages for untouched `memory`: with 4 KB pages, page faults take a quarter of the
// time of a load into new memory. This is only advice to the kernel, so it is fine that the pages
// at both ends may be shared with other data.
void prefer_huge_pages(void* memory, std::uint64_t size) noexcept;

}  // namespace yolotf

#endif  // YOLOTF_CSRC_WEIGHTS_MAPPED_FILE_H_
