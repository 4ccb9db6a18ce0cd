// This file lets function.mainMain be declared without a body: the linker binds it.
