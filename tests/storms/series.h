// SPDX-License-Identifier: Apache-2.0
//
// Figures for plots: plot,contestant,x,y a line.

#ifndef STORMS_SERIES_H
#define STORMS_SERIES_H

void series_print(void);

#endif
