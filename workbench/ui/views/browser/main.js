// Where Bokeh comes in: linked.py lets each control and each change of the state call
// `handle`, with what Python built.

import { demandBokeh, LinkedPair } from "./pair.js"

/** @import {Model, ModelEvent, Models, State, Told} from "./types.js" */

/**
 * The first time that anything happens: tie the pair together, and let it answer.
 * @param {Model | ModelEvent} origin What has happened.
 * @param {{state: State, models: Models, told: Told}} built
 */
export const begin = (origin, { state, models, told }) => {
  try {
    demandBokeh()
    const pair = new LinkedPair(state, models, told)
    globalThis.workbenchPairs ??= new WeakMap()
    globalThis.workbenchPairs.set(state, pair)
    pair.enter()
    pair.render() // what Python asked for before anyone saw it
    pair.handle(origin)
  } catch (error) {
    globalThis.workbenchSay?.(error instanceof Error ? error.message : String(error))
    throw error
  }
}
