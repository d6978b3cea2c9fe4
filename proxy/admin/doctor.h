// SPDX-License-Identifier: Apache-2.0
//
// weir doctor: asks a deployment about itself, and says what is wrong and what to do about it.

#ifndef PROXY_ADMIN_DOCTOR_H
#define PROXY_ADMIN_DOCTOR_H

// Runs `weir doctor` with the arguments that follow the word; prints to standard output. Returns
// the exit status: 0, 1, 2 by severity (doctor_report.h), 3 if nothing could be asked.
int doctor_main(int argc, char **argv);

#endif
