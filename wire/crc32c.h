// SPDX-License-Identifier: Apache-2.0
//
// CRC-32C (Castagnoli), as RFC 3720 section 12.1 has it: OP_MSG's checksum.

#ifndef WIRE_CRC32C_H
#define WIRE_CRC32C_H

#include "wire/bytes.h"

uint32_t crc32c(struct bytes bytes);

#endif
