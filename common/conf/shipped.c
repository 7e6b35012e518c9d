/* Lines that every configuration ends with: etc/bounce-categories.conf, compiled in. */
#include "common/conf/private.h"

__asm__(".pushsection .rodata\n"
	".balign 8\n"
	"shipped_size: .quad shipped_end - shipped_text\n"
	"shipped_text: .incbin \"etc/bounce-categories.conf\"\n"
	"shipped_end: .byte 0\n"
	".popsection\n");

extern const uint64_t shipped_size;
extern const char shipped_text[];

void conf_read_shipped(struct arena *arena, struct conf_items *items, struct conf_messages *msgs)
{
	conf_read_text(slice_of(shipped_text, shipped_size), "bounce-categories.conf", arena, items,
		       msgs);
}
