// This file lets functions be declared without a body: the linker binds them.
