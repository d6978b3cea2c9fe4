// SPDX-License-Identifier: Apache-2.0
//
// The assembler looks for these files where the compiler looks for headers.

.macro embed name path
    .global \name\()_begin, \name\()_end
    \name\()_begin: .incbin "\path"
    \name\()_end: .byte 0
.endm

    .section .rodata
    embed page_html "index.html"
    embed page_css "page.css"
    embed page_js "page.js"
    embed record_js "record.js"
    embed words_js "words.js"
    embed page_icon "icon.svg"
    embed uplot_js "dist/uPlot.iife.min.js"
    embed uplot_css "dist/uPlot.min.css"
    embed uplot_license "LICENSE"

    .section .note.GNU-stack, "", %progbits
