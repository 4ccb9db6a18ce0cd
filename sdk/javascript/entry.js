// Where a component begins. `mote build` bundles this file with the function, under the name `the-function`.

// The globals come first: what the function's modules do as they are loaded may need them.
import "./lib/globals.js";
import * as theFunction from "the-function";
import { serve } from "./serve.js";

export const handle = serve(theFunction);
